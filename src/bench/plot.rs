//! Plots as inline SVG: points on a line, and one bar in parts. No script, nothing from elsewhere; colors
//! are classes, so that they follow light and dark.

use std::fmt::Write as _;

use crate::report::html::escaped;

/// One figure of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// The place on the axis, counted from the left.
    pub place: usize,
    pub value: f64,
    /// The least and the most that was measured.
    pub span: (f64, f64),
    /// Whether it is what the others are compared with.
    pub is_base: bool,
}

/// Figures that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    pub marks: Vec<Mark>,
}

/// A plot of figures against the values of one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What stands below the axis, with its unit.
    pub across: String,
    /// What stands beside the other one, with its unit.
    pub up: String,
    /// The values, left to right.
    pub places: Vec<String>,
    pub series: Vec<Series>,
}

/// The drawing, in units of its own; the browser scales it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 54.0;
/// How many lines stand across a plot, about.
const LINES: f64 = 4.0;
/// The classes of series and parts, one color each.
const COLORS: usize = 9;

/// The upper end of an axis from 0 that holds `most`, and the distance of its lines: 1, 2 or 5 with zeros.
pub fn scale(most: f64) -> (f64, f64) {
    if !most.is_finite() || most <= 0.0 {
        return (1.0, 0.5);
    }
    let rough = most / LINES;
    let ten = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * ten);
    let step = steps
        .into_iter()
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(ten * 10.0);
    ((most / step - 1e-9).ceil() * step, step)
}

/// A figure with as many digits as say something.
pub fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Draws a plot.
pub fn lines(plot: &Plot) -> String {
    let marks = plot.series.iter().flat_map(|series| &series.marks);
    let most = marks
        .map(|mark| mark.span.1.max(mark.value))
        .fold(0.0, f64::max);
    let (top, step) = scale(most);
    let mut text = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} against {}\">",
        escaped(&plot.up),
        escaped(&plot.across)
    );
    let up = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
    let across = |place: usize| {
        let width = (WIDTH - LEFT - RIGHT) / (plot.places.len().max(1) as f64);
        LEFT + width * (place as f64 + 0.5)
    };
    let end = WIDTH - RIGHT;
    let mut line = 0.0;
    while line <= top * (1.0 + 1e-9) {
        let y = up(line);
        let (label, x) = (figure_of_axis(line, step), LEFT - 8.0);
        add(
            &mut text,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick end\" x=\"{x}\" y=\"{:.1}\">{label}</text>",
                y + 4.0
            ),
        );
        line += step;
    }
    for (place, name) in plot.places.iter().enumerate() {
        let (x, y, name) = (across(place), HEIGHT - BOTTOM + 18.0, escaped(name));
        add(
            &mut text,
            format_args!("<text class=\"tick middle\" x=\"{x:.1}\" y=\"{y}\">{name}</text>"),
        );
    }
    let (x, y) = ((LEFT + end) / 2.0, HEIGHT - 8.0);
    add(
        &mut text,
        format_args!(
            "<text class=\"title middle\" x=\"{x}\" y=\"{y}\">{}</text>\
         <text class=\"title\" x=\"4\" y=\"14\">{}</text>",
            escaped(&plot.across),
            escaped(&plot.up)
        ),
    );
    for (number, series) in plot.series.iter().enumerate() {
        draw_series(&mut text, series, number % COLORS, &across, &up);
    }
    text.push_str("</svg>");
    text
}

/// Writing to a string cannot fail; the result is of no interest.
fn add(text: &mut String, words: std::fmt::Arguments<'_>) {
    let _always = text.write_fmt(words);
}

fn figure_of_axis(value: f64, step: f64) -> String {
    if step >= 1.0 {
        format!("{value:.0}")
    } else {
        figure(value)
    }
}

fn draw_series(
    text: &mut String,
    series: &Series,
    color: usize,
    across: &dyn Fn(usize) -> f64,
    up: &dyn Fn(f64) -> f64,
) {
    let points: Vec<String> = series
        .marks
        .iter()
        .map(|mark| format!("{:.1},{:.1}", across(mark.place), up(mark.value)))
        .collect();
    add(
        text,
        format_args!(
            "<polyline class=\"line s{color}\" points=\"{}\"/>",
            points.join(" ")
        ),
    );
    for mark in &series.marks {
        let (x, y) = (across(mark.place), up(mark.value));
        let (least, most) = (up(mark.span.0), up(mark.span.1));
        let shown = figure(mark.value);
        let class = if mark.is_base { "dot base" } else { "dot" };
        let title = escaped(&series.name);
        add(
            text,
            format_args!(
                "<g><title>{title}: {shown}</title>\
             <line class=\"span s{color}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{least:.1}\" y2=\"{most:.1}\"/>\
             <circle class=\"{class} f{color} s{color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>\
             <text class=\"value middle\" x=\"{x:.1}\" y=\"{:.1}\">{shown}</text></g>",
                most.min(y) - 9.0
            ),
        );
    }
}

/// The names of series with their colors; nothing where there is only one.
pub fn legend(names: &[String]) -> String {
    if names.len() < 2 {
        return String::new();
    }
    let keys = names.iter().enumerate().map(|(number, name)| {
        format!(
            "<li><svg viewBox=\"0 0 1 1\" aria-hidden=\"true\"><rect class=\"f{}\" width=\"1\" \
             height=\"1\"/></svg>{}</li>",
            number % COLORS,
            escaped(name)
        )
    });
    format!("<ul class=\"legend\">{}</ul>", keys.collect::<String>())
}

/// One bar in parts, each as wide as its share; what is not above 0 has none.
pub fn bar(parts: &[(String, f64)], label: &str) -> String {
    let all: f64 = parts.iter().map(|(_name, value)| value.max(0.0)).sum();
    let mut text = format!(
        "<svg class=\"share\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">",
        escaped(label)
    );
    let mut from = 0.0;
    for (number, (name, value)) in parts.iter().enumerate() {
        let width = value.max(0.0) * 100.0 / all.max(f64::EPSILON);
        add(
            &mut text,
            format_args!(
                "<rect class=\"f{}\" x=\"{from:.3}\" width=\"{width:.3}\" height=\"1\"><title>{}: {}</title></rect>",
                number % COLORS,
                escaped(name),
                figure(*value)
            ),
        );
        from += width;
    }
    text.push_str("</svg>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_hold_the_most_and_have_round_lines() {
        for (most, top, step) in [
            (0.0, 1.0, 0.5),
            (1.0, 1.0, 0.5),
            (23.8, 30.0, 10.0),
            (48.0, 60.0, 20.0),
            (100.0, 100.0, 50.0),
            (431.0, 600.0, 200.0),
            (0.037, 0.04, 0.01),
            (f64::NAN, 1.0, 0.5),
        ] {
            let (is_top, is_step) = scale(most);
            assert!((is_top - top).abs() < 1e-9, "{most}: {is_top}");
            assert!((is_step - step).abs() < 1e-9, "{most}: {is_step}");
        }
    }

    fn mark(place: usize, value: f64) -> Mark {
        Mark {
            place,
            value,
            span: (value, value),
            is_base: place == 0,
        }
    }

    #[test]
    fn marks_stand_within_the_drawing_and_higher_ones_higher() {
        let plot = Plot {
            across: "uploads & more".to_owned(),
            up: "pages/s".to_owned(),
            places: vec!["4".to_owned(), "16".to_owned()],
            series: vec![Series {
                name: "as <configured>".to_owned(),
                marks: vec![mark(0, 10.0), mark(1, 90.0)],
            }],
        };
        let text = lines(&plot);
        assert!(text.contains("uploads &amp; more") && text.contains("as &lt;configured&gt;"));
        let heights: Vec<f64> = text
            .split("cy=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 2);
        assert!(heights[1] < heights[0], "{heights:?}");
        assert!(heights.iter().all(|y| (TOP..=HEIGHT - BOTTOM).contains(y)));
    }

    #[test]
    fn the_parts_of_a_bar_fill_it() {
        let parts = [("a", 1.0), ("b", 3.0), ("c", -0.1)];
        let parts = parts.map(|(name, value)| (name.to_owned(), value));
        let text = bar(&parts, "parts");
        assert!(text.contains("x=\"25.000\" width=\"75.000\""), "{text}");
        assert!(text.contains("x=\"100.000\" width=\"0.000\""), "{text}");
    }
}
