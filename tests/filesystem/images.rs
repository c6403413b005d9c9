use std::fs;

use pagemill::domain::image::{ImageFault, ImageType};
use pagemill::ports::page_source::PageSource;
use sha2::{Digest, Sha256};

use crate::world::{IMAGE_BYTES_MAX, World, key};

fn jpeg() -> Vec<u8> {
    let mut bytes =
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00".to_vec();
    bytes.extend(b"\xff\xc0\x00\x0b\x08\x00\x07\x00\x05\x01\x01\x11\x00");
    bytes.extend(b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00abc\xff\x00def\xff\xd9");
    bytes
}

fn png() -> Vec<u8> {
    let mut bytes =
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00\x00\x05\x00\x00\x00\x07".to_vec();
    bytes.extend(b"\x08\x00\x00\x00\x00CRC!");
    bytes.extend(b"\x00\x00\x00\x03IDATabcCRC!");
    bytes.extend(b"\x00\x00\x00\x00IENDCRC!");
    bytes
}

fn webp() -> Vec<u8> {
    let mut chunk = b"WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x06\x00\x00".to_vec();
    chunk.extend(b"VP8 \x02\x00\x00\x00ab");
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((chunk.len() as u32).to_le_bytes());
    bytes.extend(chunk);
    bytes
}

fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = (content.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(kind);
    bytes.extend(content);
    bytes
}

fn heif(brand: &[u8; 4], compatible: &[u8]) -> Vec<u8> {
    let ispe = boxed(b"ispe", b"\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x07");
    let iprp = boxed(b"iprp", &boxed(b"ipco", &ispe));
    let mut meta = b"\x00\x00\x00\x00".to_vec();
    meta.extend(iprp);
    let mut bytes = boxed(
        b"ftyp",
        &[brand.as_slice(), b"\x00\x00\x00\x00", compatible].concat(),
    );
    bytes.extend(boxed(b"meta", &meta));
    bytes.extend(boxed(b"mdat", b"pixels"));
    bytes
}

async fn check_good(name: &str, bytes: &[u8], mime: ImageType) {
    let world = World::new();
    let put = world.put(&format!("images/a/b/c/{name}"), bytes);
    let (path, facts) = world.files.image(&key("a:b:c:1")).await.unwrap();
    assert_eq!(path, put);
    assert_eq!(
        (facts.mime, facts.bytes),
        (mime, bytes.len() as u64),
        "{name}"
    );
    assert_eq!((facts.width, facts.height), (5, 7), "{name}");
    assert_eq!(facts.sha256.as_str(), hex::encode(Sha256::digest(bytes)));
}

#[tokio::test]
async fn good_images_pass_whatever_their_names_say() {
    check_good("1.jpg", &jpeg(), ImageType::Jpeg).await;
    check_good("1.JPEG", &jpeg(), ImageType::Jpeg).await;
    check_good("1.jPg", &jpeg(), ImageType::Jpeg).await;
    check_good("1.jpg", &png(), ImageType::Png).await;
    check_good("1.png", &png(), ImageType::Png).await;
    check_good("1.webp", &webp(), ImageType::Webp).await;
    check_good("1.heic", &heif(b"heic", b"mif1heic"), ImageType::Heic).await;
    check_good("1.heif", &heif(b"mif1", b"mif1heic"), ImageType::Heic).await;
    check_good("1.heif", &heif(b"mif1", b"mif1miaf"), ImageType::Heif).await;
    check_good("1.jpg", &[jpeg(), vec![0; 100]].concat(), ImageType::Jpeg).await;
    check_good(
        "1.jpg",
        &[jpeg(), b"a trailer".to_vec()].concat(),
        ImageType::Jpeg,
    )
    .await;
}

async fn fault(name: &str, bytes: &[u8]) -> ImageFault {
    let world = World::new();
    world.put(&format!("images/a/b/c/{name}"), bytes);
    world.files.image(&key("a:b:c:1")).await.unwrap_err()
}

#[tokio::test]
async fn images_cut_short_are_damaged() {
    for (name, whole) in [("1.jpg", jpeg()), ("1.png", png()), ("1.webp", webp())] {
        for cut in [whole.len() - 1, whole.len() - 5] {
            let fault = fault(name, &whole[..cut]).await;
            assert!(
                matches!(fault, ImageFault::Damaged { .. }),
                "{name} {cut}: {fault}"
            );
        }
    }
    let whole = heif(b"heic", b"mif1heic");
    for cut in [whole.len() - 1, whole.len() - 20] {
        let fault = fault("1.heic", &whole[..cut]).await;
        assert!(matches!(fault, ImageFault::Damaged { .. }), "{fault}");
    }
    let padded = [&jpeg()[..40], &[0; 4_000]].concat();
    assert!(matches!(
        fault("1.jpg", &padded).await,
        ImageFault::Damaged { .. }
    ));
}

#[tokio::test]
async fn every_other_fault_has_its_name() {
    let world = World::new();
    world.put("images/a/b/c/2.png", &png());
    let missing = world.files.image(&key("a:b:c:1")).await.unwrap_err();
    assert!(
        missing.to_string().contains("images/a/b/c/1.{jpg,"),
        "{missing}"
    );
    let foreign = world.files.image(&key("..:b:c:1")).await.unwrap_err();
    assert!(matches!(foreign, ImageFault::Missing { .. }));

    assert!(matches!(fault("1.jpg", b"").await, ImageFault::Empty(_)));
    for other in [
        &b"II*\0tiff"[..],
        b"GIF89a",
        b"%PDF-1.4",
        b"x",
        &heif(b"avif", b"avifmif1"),
    ] {
        assert!(matches!(
            fault("1.jpg", other).await,
            ImageFault::Unsupported(_)
        ));
    }
    let avif = heif(b"mif1", b"mif1avif");
    assert!(matches!(
        fault("1.heif", &avif).await,
        ImageFault::Unsupported(_)
    ));

    world.put("images/a/b/c/1.jpg", &jpeg());
    world.put("images/a/b/c/1.PNG", &png());
    world.put("images/a/b/c/2.txt", b"");
    let several = world.files.image(&key("a:b:c:1")).await.unwrap_err();
    assert!(matches!(several, ImageFault::Several(_)), "{several}");

    let large = fs::File::create(world.path("images/a/b/c/3.png")).unwrap();
    large.set_len(IMAGE_BYTES_MAX + 1).unwrap();
    let fault = world.files.image(&key("a:b:c:3")).await.unwrap_err();
    assert!(matches!(fault, ImageFault::TooLarge { bytes, limit, .. } if bytes == limit + 1));

    fs::create_dir(world.path("images/a/b/c/4.png")).unwrap();
    let fault = world.files.image(&key("a:b:c:4")).await.unwrap_err();
    assert!(matches!(fault, ImageFault::Unreadable { .. }));
}

#[tokio::test]
async fn no_mutation_of_an_image_panics() {
    let world = World::new();
    for whole in [jpeg(), png(), webp(), heif(b"heic", b"mif1heic")] {
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                world.put("images/a/b/c/1.jpg", &bytes);
                let _ = world.files.image(&key("a:b:c:1")).await;
            }
        }
    }
}
