#!/usr/bin/python3
"""Typesets the nine invented catalogue pages in `pages/`.

Needs Debian 12 packages only: apt-get install python3-pil fonts-oldstandard
Run it in this folder: /usr/bin/python3 make_pages.py

The text is made up for the demo: the people, prices and courses are fiction. The result depends
on the versions of both packages, so the images are committed and nothing builds them.
"""

import random
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT, SCALE = 770, 1000, 2
LEFT, RIGHT = 78, 692
FONTS = Path("/usr/share/fonts/truetype/fonts-oldstandard")
FACES = {"r": "Regular", "i": "Italic", "b": "Bold"}
INK = 28


def font(size, face="r"):
    return ImageFont.truetype(str(FONTS / f"OldStandard-{FACES[face]}.ttf"), size * SCALE)


class Sheet:
    """One page being set, from top to bottom, at SCALE times its final size."""

    def __init__(self, book, number):
        self.image = Image.new("L", (WIDTH * SCALE, HEIGHT * SCALE), 255)
        self.draw = ImageDraw.Draw(self.image)
        self.y = 60
        if number:
            self.text(LEFT if number % 2 == 0 else RIGHT, str(number), font(17), "ls" if number % 2 == 0 else "rs")
            self.spaced(book.upper(), font(14), 2)
            self.y += 12
            self.rule(LEFT, RIGHT)
            self.y += 34

    def text(self, x, text, face, anchor="ls"):
        self.draw.text((x * SCALE, self.y * SCALE), text, font=face, fill=INK, anchor=anchor)

    def rule(self, x0, x1, weight=2):
        y = self.y * SCALE
        self.draw.line([(x0 * SCALE, y), (x1 * SCALE, y)], fill=INK, width=weight)

    def spaced(self, text, face, gap):
        """Sets a centered line with letter-spacing."""
        widths = [face.getlength(letter) + gap * SCALE for letter in text]
        x = WIDTH * SCALE / 2 - (sum(widths) - gap * SCALE) / 2
        for letter, width in zip(text, widths):
            self.draw.text((x, self.y * SCALE), letter, font=face, fill=INK, anchor="ls")
            x += width

    def head(self, text, size=22):
        self.y += 12
        self.spaced(text, font(size), 2.5)
        self.y += 15
        self.rule(WIDTH / 2 - 34, WIDTH / 2 + 34)
        self.y += 27

    def center(self, text, size, face="r", after=10):
        self.text(WIDTH / 2, text, font(size, face), "ms")
        self.y += size + after

    def gap(self, height):
        self.y += height

    def para(self, text, size=17, leading=24):
        """Sets a justified paragraph with an indent."""
        face, lines, line, room = font(size), [], [], (RIGHT - LEFT - 22) * SCALE
        for word in text.split():
            if line and face.getlength(" ".join(line + [word])) > room:
                lines.append((line, room))
                line, room = [], (RIGHT - LEFT) * SCALE
            line.append(word)
        for words, room in lines + [(line, None)]:
            x = RIGHT * SCALE - room if room else (LEFT if lines else LEFT + 22) * SCALE
            space = face.getlength(" ")
            if room:
                space = (room - sum(map(face.getlength, words))) / (len(words) - 1)
            for word in words:
                self.draw.text((x, self.y * SCALE), word, font=face, fill=INK, anchor="ls")
                x += face.getlength(word) + space
            self.y += leading
        self.y += 8

    def leaders(self, rows, size=17, leading=26):
        """Sets rows whose two ends are joined by dots."""
        face = font(size)
        for left, right in rows:
            self.text(LEFT + 10, left, face)
            self.text(RIGHT - 10, right, face, "rs")
            x, end = RIGHT - 22 - face.getlength(right) / SCALE, LEFT + 22 + face.getlength(left) / SCALE
            while x > end:
                self.text(x, ".", face, "ms")
                x -= 12
            self.y += leading
        self.y += 8

    def listing(self, rows, size=16, leading=23):
        """Sets name and residence in two columns of rows."""
        half, middle, top = (len(rows) + 1) // 2, WIDTH / 2, self.y
        for column, part in enumerate((rows[:half], rows[half:])):
            x0, x1 = (LEFT, middle - 14) if column == 0 else (middle + 14, RIGHT)
            self.y = top
            for name, place in part:
                self.text(x0, name, font(size))
                self.text(x1, place, font(size - 1, "i"), "rs")
                self.y += leading
        self.y = top + half * leading + 8
        end, self.y = self.y, top - 14
        self.draw.line([(middle * SCALE, self.y * SCALE), (middle * SCALE, (end - 26) * SCALE)], fill=INK)
        self.y = end

    def table(self, titles, rows, stops, size=16, leading=25):
        """Sets a ruled table; `stops` are the left edges of its columns."""
        self.rule(LEFT, RIGHT, 3)
        self.y += 20
        for at, title in zip(stops, titles):
            self.text(at, title, font(size - 1, "i"))
        self.y += 9
        self.rule(LEFT, RIGHT)
        self.y += 23
        for row in rows:
            for at, cell in zip(stops, row):
                self.text(at, cell, font(size))
            self.y += leading
        self.y -= 12
        self.rule(LEFT, RIGHT, 3)
        self.y += 34


def paper(seed):
    """A sheet of aged paper: broad stains, darker edges."""
    dice = random.Random(seed)
    stains = Image.new("L", (9, 12))
    stains.putdata([dice.randint(232, 246) for _ in range(9 * 12)])
    stains = stains.resize((WIDTH, HEIGHT), Image.BICUBIC)
    edge = Image.new("L", (WIDTH, HEIGHT), 214)
    ImageDraw.Draw(edge).rectangle([26, 26, WIDTH - 26, HEIGHT - 26], fill=255)
    return ImageChops.multiply(stains, edge.filter(ImageFilter.GaussianBlur(24)))


def tinted(gray):
    return Image.merge("RGB", [gray.point(lambda v, k=k: int(v * k)) for k in (1.0, 0.965, 0.89)])


def print_page(name, seed, sheet):
    """Puts the ink on paper, a little askew, and stores it."""
    assert sheet.y < HEIGHT - 20, f"{name} is full: {sheet.y}"
    dice = random.Random(seed)
    ink = sheet.image.rotate(dice.uniform(-0.35, 0.35), Image.BICUBIC, fillcolor=255)
    ink = ink.resize((WIDTH, HEIGHT), Image.LANCZOS).filter(ImageFilter.GaussianBlur(0.35))
    target = Path("pages") / name
    if target.suffix == ".png":
        flat = tinted(ink.point(lambda v: v * 240 // 255))
        flat.quantize(12, dither=Image.NONE).save(target, optimize=True)
    else:
        tinted(ImageChops.multiply(paper(seed), ink)).save(target, quality=54, optimize=True)
    print(target, target.stat().st_size)


HOWARD, GENEVIEVE = "Howard College", "Ste. Geneviève’s Academy"


def howard_1():
    s = Sheet(HOWARD, None)
    s.gap(60)
    for text, size, face, after in [
        ("CATALOGUE", 46, "r", 20), ("OF THE", 15, "r", 30), ("OFFICERS AND STUDENTS", 30, "r", 10),
        ("OF", 15, "r", 34), ("HOWARD COLLEGE,", 42, "b", 16), ("MARION, ALABAMA,", 20, "r", 18),
        ("For the Academic Year 1848–49.", 21, "i", 30),
    ]:
        s.center(text, size, face, after)
    s.head("CALENDAR.", 20)
    s.leaders([
        ("First Session begins", "Monday, October 2, 1848"),
        ("Winter Recess", "December 23 to January 2"),
        ("Second Session begins", "Monday, February 19, 1849"),
        ("Examination of the Classes", "July 16 to 20"),
        ("Commencement", "Thursday, July 26, 1849"),
    ], 18, 28)
    s.gap(34)
    s.rule(WIDTH / 2 - 90, WIDTH / 2 + 90)
    s.gap(36)
    s.center("MARION:", 17)
    s.center("Printed at the Office of the Perry Herald.", 16, "i")
    s.center("1849.", 18)
    return s


def howard_2():
    s = Sheet(HOWARD, 2)
    s.head("BOARD OF TRUSTEES.")
    s.listing([
        ("Hon. Josiah P. Tarrant, Pres.", "Marion"), ("Gen. Edwin Kingsbury", "Selma"),
        ("Rev. Amos L. Whitfield", "Greensboro’"), ("Walter N. Ogle, Sec.", "Marion"),
        ("Dr. Lemuel Cary", "Uniontown"), ("Rev. Hosea T. Burke", "Talladega"),
        ("William Hornsby, Treas.", "Marion"), ("Isaac D. Lockhart", "Mobile"),
    ])
    s.gap(8)
    s.head("FACULTY.")
    for name, chair in [
        ("REV. ELIAS M. HARGROVE, A. M., President,", "Professor of Moral and Intellectual Philosophy."),
        ("THOMAS R. BELLAMY, A. M.,", "Professor of the Ancient Languages and Literature."),
        ("HENRY C. WAINWRIGHT, A. M.,", "Professor of Mathematics and Natural Philosophy."),
        ("AUGUSTUS LE FÈVRE, M. D.,", "Professor of Chemistry, Mineralogy and Geology."),
        ("REV. PHILIP S. DUNNING, A. M.,", "Professor of Rhetoric, and Librarian."),
        ("NATHAN COLLIER, A. B.,", "Tutor in Latin and Greek."),
        ("SAMUEL J. PRUITT, A. B.,", "Principal of the Preparatory Department."),
    ]:
        s.text(LEFT + 20, name, font(17))
        s.gap(24)
        s.text(LEFT + 60, chair, font(17, "i"))
        s.gap(33)
    s.gap(6)
    s.head("STANDING COMMITTEES.", 19)
    s.leaders([
        ("On the Library and Apparatus", "Whitfield, Cary, Ogle"),
        ("On Finance and Buildings", "Hornsby, Tarrant, Lockhart"),
        ("On Examinations", "Kingsbury, Burke, Whitfield"),
    ])
    return s


def howard_3():
    s = Sheet(HOWARD, 3)
    s.gap(10)
    s.center("STUDENTS.", 26, after=4)
    for title, rows in [
        ("SENIOR CLASS.", [
            ("James H. Abercrombie", "Marion"), ("Robert Dancy", "Dallas Co."), ("Elijah Fennimore", "Sumterville"),
            ("Porter King Lyle", "Greene Co."), ("Matthew Sayre", "Montgomery"), ("Caleb W. Yarbrough", "Perry Co.")]),
        ("JUNIOR CLASS.", [
            ("William T. Averett", "Selma"), ("John B. Cathey", "Tuskegee"), ("Amos Driskell", "Columbus, Mi."),
            ("George Hatcher", "Lowndes Co."), ("Oliver N. Meade", "Marion"), ("Thos. J. Pickering", "Mobile"),
            ("Reuben Stallworth", "Monroe Co."), ("Zachariah Wynne", "Marengo Co.")]),
        ("SOPHOMORE CLASS.", [
            ("Daniel Atwater", "Marion"), ("Lucius Q. Bragdon", "Wetumpka"), ("Hiram Coe", "Perry Co."),
            ("Francis M. Dunklin", "Greenville"), ("Edward Ivey", "Eufaula"), ("Jesse P. Marbury", "Coosa Co."),
            ("Philemon Oakes", "Gainesville"), ("Albert Thigpen", "Butler Co.")]),
        ("FRESHMAN CLASS.", [
            ("Benj. F. Applewhite", "Marion"), ("Charles Brantley", "Cahawba"), ("Wm. Curry Dozier", "Talladega"),
            ("Josephus Easley", "Livingston"), ("Alonzo Grice", "Perry Co."), ("Henry Luckett", "Selma"),
            ("John Milton Nance", "Noxubee, Mi."), ("Silas Pettway", "Wilcox Co."), ("Duncan Ross", "Mobile"),
            ("Ezra Tillinghast", "Macon Co.")]),
    ]:
        s.head(title, 18)
        s.gap(-4)
        s.listing(rows, 16, 22)
    s.head("SUMMARY.", 18)
    s.leaders([("Seniors, 6.   Juniors, 8.   Sophomores, 8.   Freshmen, 10", "32"), ("Preparatory Department", "41")], 16, 22)
    return s


TERMS = ("", "First Term.", "Second Term.")
STOPS = (LEFT + 4, LEFT + 128, LEFT + 378)


def howard_4():
    s = Sheet(HOWARD, 4)
    s.head("ADMISSION.")
    s.para("Candidates for the Freshman Class are examined in English Grammar, Geography, Arithmetic, "
           "Cæsar’s Commentaries, the Æneid of Virgil, Cicero’s Select Orations, and the Greek Reader. No one "
           "is admitted under the age of fourteen years, nor without testimonials of good moral character.")
    s.para("Those who seek an advanced standing are examined in all the studies which the class has pursued.")
    s.head("COURSE OF STUDY.")
    s.center("FRESHMAN YEAR.", 17, after=6)
    s.table(TERMS, [
        ("Latin.", "Livy, begun.", "Livy; Horace, Odes."),
        ("Greek.", "Xenophon, Anabasis.", "Xenophon, Memorabilia."),
        ("Mathematics.", "Algebra, Bourdon.", "Geometry, six books."),
        ("English.", "Ancient Geography.", "Declamation, weekly."),
        ("Exercises.", "Latin Composition.", "Greek Composition."),
    ], STOPS)
    s.center("SOPHOMORE YEAR.", 17, after=6)
    s.table(TERMS, [
        ("Latin.", "Horace, Satires.", "Cicero de Oratore."),
        ("Greek.", "Homer, Iliad.", "Demosthenes, Select."),
        ("Mathematics.", "Trigonometry.", "Surveying, Navigation."),
        ("English.", "Newman’s Rhetoric.", "Blair’s Lectures."),
        ("History.", "Tytler, begun.", "Tytler, finished."),
    ], STOPS)
    s.para("Lectures on Grecian and Roman Antiquities are given to this class throughout the year.")
    return s


def howard_5():
    s = Sheet(HOWARD, 5)
    s.center("COURSE OF STUDY—Continued.", 18, "i", 12)
    s.center("JUNIOR YEAR.", 17, after=6)
    s.table(TERMS, [
        ("Latin.", "Tacitus, Germania.", "Juvenal, Select Satires."),
        ("Greek.", "Sophocles, Œdipus.", "Euripides, Alcestis."),
        ("Mathematics.", "Conic Sections.", "Calculus, elective."),
        ("Nat. Phil.", "Mechanics, Olmsted.", "Optics; Electricity."),
        ("Chemistry.", "Lectures.", "Lectures, Laboratory."),
        ("Logic.", "Whately.", "Whately, finished."),
    ], STOPS)
    s.center("SENIOR YEAR.", 17, after=6)
    s.table(TERMS, [
        ("Philosophy.", "Upham’s Mental Philos.", "Wayland’s Moral Science."),
        ("Evidences.", "Paley.", "Butler’s Analogy."),
        ("Pol. Economy.", "Wayland.", "Kent, on the Constitution."),
        ("Astronomy.", "Olmsted.", "Use of the Telescope."),
        ("Geology.", "Mineralogy.", "Lectures, Excursions."),
        ("Rhetoric.", "Original Orations.", "Original Orations."),
    ], STOPS)
    s.para("French may be substituted for Calculus, and is taught by the Professor of Chemistry without an "
           "additional charge. Each Senior pronounces in the Chapel two orations of his own composition.")
    s.head("DEGREES.", 20)
    s.para("The degree of Bachelor of Arts is conferred on those who complete the foregoing course and sustain "
           "the final examination. A certificate is given to those who pursue the English studies only.")
    return s


def howard_6():
    s = Sheet(HOWARD, 6)
    s.head("EXPENSES.")
    s.para("Tuition is payable in advance, one half at the opening of each session. No deduction is made for "
           "absence, except in case of protracted illness.")
    s.leaders([
        ("Tuition, College Classes, per session", "$25 00"), ("Tuition, Preparatory, Latin and Greek", "20 00"),
        ("Tuition, Preparatory, English only", "12 50"), ("Room rent and care of rooms", "6 00"),
        ("Incidental tax, for fuel and repairs", "2 00"), ("Board, per month, in private families", "9 00"),
        ("Washing, per month", "1 50"), ("Diploma fee, at graduation", "5 00"),
    ])
    s.head("LIBRARY AND SOCIETIES.")
    s.para("The College Library contains about fourteen hundred volumes, and is open on Saturdays from nine "
           "until noon. The Philomathic and the Franklin Societies, which meet on Friday evening, have "
           "collections of their own. The apparatus has been enlarged by an air pump, an orrery, and a "
           "telescope of four inches’ aperture, the gift of friends in Mobile.")
    s.head("GOVERNMENT.")
    s.para("Every student signs the Laws on his admission. He is to be in his room at the ringing of the evening "
           "bell, to attend prayers morning and evening in the Chapel, and to be absent from the village at no "
           "time without leave. A record of each student’s scholarship, deportment and absences is kept, "
           "and is sent to the parent or guardian at the close of every session.")
    return s


def genevieve_1():
    s = Sheet(GENEVIEVE, 1)
    s.gap(24)
    s.center("STE. GENEVIÈVE’S ACADEMY,", 32, "b", 8)
    s.center("STE. GENEVIÈVE, MISSOURI.", 18, after=8)
    s.center("Thirty-first Annual Announcement, 1884–85.", 19, "i", 22)
    s.head("INSTRUCTORS.")
    s.leaders([
        ("Eugénie M. Rozier, Principal", "Literature and History"), ("Caroline A. Thurlow", "Mathematics"),
        ("Léon Desprès", "French and Drawing"), ("Margaret O’Hanlon", "Latin and Rhetoric"),
        ("Frederick Baumgart", "German and Music"), ("Lucy P. Swearingen", "Natural Sciences"),
        ("Ida May Tolliver", "Primary Department"),
    ])
    s.head("CALENDAR FOR 1884–85.")
    s.table(("Term.", "Opens.", "Closes."), [
        ("Fall", "Monday, September 8", "Friday, November 28"),
        ("Winter", "Monday, December 1", "Friday, February 27"),
        ("Spring", "Monday, March 9", "Thursday, June 4"),
    ], (LEFT + 10, LEFT + 160, LEFT + 390))
    s.head("LOCATION.")
    s.para("The Academy stands upon the bluff above the old town, within sight of the river, and may be reached "
           "by the packets from St. Louis, or by the cars to St. Mary’s Landing. The grounds are of seven acres, "
           "well shaded. The building was thoroughly repaired in the summer of 1883, and is heated by steam.")
    return s


def genevieve_2():
    s = Sheet(GENEVIEVE, 2)
    s.head("COURSE OF STUDY.")
    titles, stops = ("Fall.", "Winter.", "Spring."), (LEFT + 6, LEFT + 216, LEFT + 420)
    for year, rows in [
        ("FIRST YEAR.", [
            ("Arithmetic, higher", "Algebra, begun", "Algebra"), ("Latin Grammar", "Latin Reader", "Cæsar"),
            ("English Analysis", "Physical Geography", "Botany"), ("Drawing", "Drawing", "Penmanship")]),
        ("SECOND YEAR.", [
            ("Algebra, finished", "Plane Geometry", "Plane Geometry"), ("Cæsar", "Cicero", "Cicero"),
            ("Rhetoric", "General History", "General History"), ("French or German", "French or German", "French or German")]),
        ("THIRD YEAR.", [
            ("Solid Geometry", "Trigonometry", "Astronomy"), ("Virgil", "Virgil", "Latin Prose"),
            ("Natural Philosophy", "Chemistry", "Geology"), ("English Literature", "English Literature", "Civil Government")]),
    ]:
        s.center(year, 16, after=4)
        s.table(titles, rows, stops, 16, 24)
    s.gap(4)
    s.para("Reading, Spelling and Composition are required of every pupil in every term. Those who look forward "
           "to teaching receive in the Third Year a weekly lesson in the Theory of Instruction.")
    s.para("Vocal music is free to all. A pupil may omit Latin at the written wish of her parents, and shall "
           "then take both French and German.")
    return s


def genevieve_3():
    s = Sheet(GENEVIEVE, 3)
    s.head("TERMS.")
    s.table(("Department.", "Per Term.", "Per Year."), [
        ("Primary", "$6 00", "$18 00"), ("Intermediate", "8 00", "24 00"), ("Academic", "12 00", "36 00"),
        ("Piano, two lessons a week", "15 00", "45 00"), ("Drawing and Painting", "7 50", "22 50"),
        ("Board, with light and fuel", "48 00", "144 00"),
    ], (LEFT + 10, LEFT + 370, LEFT + 500))
    s.para("Bills are due at the beginning of the term. Daughters of clergymen are received at half rates. Two "
           "sisters entering together are allowed one tenth off the tuition of each.")
    s.head("TEXT-BOOKS.")
    s.listing([
        ("Ray’s Higher Arithmetic", "I."), ("Robinson’s Algebra", "I., II."), ("Harkness’s Latin", "I.–III."),
        ("Guyot’s Geography", "I."), ("Gray’s How Plants Grow", "I."), ("Hart’s Rhetoric", "II."),
        ("Swinton’s Outlines", "II."), ("Otto’s French Grammar", "II."), ("Steele’s Chemistry", "III."),
        ("Shaw’s Literature", "III."), ("Townsend’s Government", "III."), ("McGuffey’s Readers", "all"),
    ])
    s.head("HOME READING.")
    s.para("One book is read aloud each term in the library, and the pupils write of it in their own words. For the "
           "present year the Principal has chosen Ivanhoe, The Pilgrim’s Progress, and a new tale of the "
           "Mississippi. A page of the last, as it stands in our copy, is placed opposite for a trial of "
           "reading at sight.")
    return s


PAGES = [
    ("howard-1.jpg", howard_1), ("howard-2.png", howard_2), ("howard-3.jpg", howard_3), ("howard-4.jpg", howard_4),
    ("howard-5.jpg", howard_5), ("howard-6.png", howard_6), ("genevieve-1.jpg", genevieve_1),
    ("genevieve-2.png", genevieve_2), ("genevieve-3.jpg", genevieve_3),
]

if __name__ == "__main__":
    Path("pages").mkdir(exist_ok=True)
    for seed, (name, compose) in enumerate(PAGES, start=1849):
        print_page(name, seed, compose())
