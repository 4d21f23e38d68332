//! Media, from the outside: guests read objects and store them, whole and in parts, as far as they may and as far as there
//! is room.

mod faults;
mod referred;
mod services;
mod studio;

use std::time::{Duration, SystemTime};

use mentat_manifest::{ByteCount, ModuleDigest};
use mentat_runtime::MediaPlace;

use self::studio::{Studio, count, download, upload, upload_zeros};

const BOTH: [&str; 2] = ["media:read:", "media:write:"];

/// Some kilobytes in which no two parts are alike.
fn content(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(|number| (number.wrapping_mul(2_654_435_761)).to_le_bytes()).take(length).collect()
}

fn reference_of(content: &[u8]) -> String {
    format!("media://{}", ModuleDigest::of(content).to_string().replace(':', "/"))
}

#[tokio::test]
async fn what_was_stored_is_read_back_by_the_digest_of_its_content() {
    let studio = Studio::open(&BOTH).await;
    for length in [0, 1, 1000, 700_000] {
        let content = content(length);
        let reference = studio.store("image/png", &content).await;
        assert_eq!(reference, reference_of(&content));
        for piece in [100_000, 524_288, 1_000_000] {
            let (code, read) = studio.ask(download(&reference, 0, piece)).await;
            assert_eq!((code, read == content), (0, true), "{length} in pieces of {piece}");
        }
    }
    let counts = studio.runtime.media_counts();
    assert_eq!((counts.stored, counts.stored_bytes, counts.failed), (4, 701_001, 0));
}

#[tokio::test]
async fn what_the_operator_put_there_is_read_by_its_name() {
    let studio = Studio::open(&["media:read:pictures/"]).await;
    studio.put("pictures/Grüße aus/cat 1%.png", b"a cat");
    let (code, read) = studio.ask(download("media://pictures/Grüße aus/cat 1%.png", 0, 100)).await;
    assert_eq!((code, &read[..]), (0, &b"a cat"[..]));
    let (_, end) = studio.ask(download("media://pictures/Grüße aus/cat 1%.png", 2, 100)).await;
    assert_eq!(&end[..], b"cat");
    let (code, text) = studio.refusal(download("media://pictures/Grüße aus/cat 1%.png", 6, 100)).await;
    assert_eq!((code, text.as_str()), (-61, "there is no result to read"));
    let (code, text) = studio.refusal(download("media://pictures/dog.png", 0, 100)).await;
    assert_eq!((code, text.as_str()), (-4, "there is no object `media://pictures/dog.png`"));
    let (code, _) = studio.refusal(download("media://pictures", 0, 100)).await;
    assert_eq!(code, -1);
}

#[tokio::test]
async fn every_object_is_asked_for_by_its_own_name() {
    let mut studio = Studio::open(&["media:read:pictures/", "media:write:"]).await;
    studio.put("pictures/cat.png", b"a cat");
    studio.put("private/key.pem", b"a key");
    let (code, text) = studio.refusal(download("media://private/key.pem", 0, 100)).await;
    assert_eq!(code, -1);
    assert!(text.contains("`media:read:private/key.pem` is not in the manifest"), "{text}");
    // Its own upload as well: who may store may not look.
    let reference = studio.store("text/plain", b"mine").await;
    let (code, _) = studio.refusal(download(&reference, 0, 100)).await;
    assert_eq!(code, -1);
    studio.world.policies = "@id(\"cats\") permit (principal, action, resource) \
        when { resource is Object && resource.prefix like \"*/cat.png\" };"
        .into();
    studio.put("pictures/dog.png", b"a dog");
    assert_eq!(studio.ask(download("media://pictures/cat.png", 0, 100)).await.0, 0);
    assert_eq!(studio.refusal(download("media://pictures/dog.png", 0, 100)).await.0, -2);
    let (code, text) = studio.refusal(upload("text/plain", b"other")).await;
    assert_eq!((code, text.contains("media:write:sha256/")), (-2, true), "{text}");
    assert!(!studio.path(&reference_of(b"other")["media://".len()..]).exists());
    // What was decided is counted, as with every other capability.
    assert_eq!(studio.decisions(download("media://pictures/cat.png", 0, 100)).await, (1, 0));
    assert_eq!(studio.decisions(upload("text/plain", b"other")).await, (0, 1));
}

#[tokio::test]
async fn tenants_do_not_see_each_others_objects() {
    let studio = Studio::open(&BOTH).await;
    let reference = studio.store("text/plain", b"mine").await;
    let (code, _) = studio.ask_as("other", download(&reference, 0, 100)).await;
    assert_eq!(code, -4);
    for tenant in ["../default", ".", "..", "default/", "DEFAULT", "a/b"] {
        let (code, _) = studio.ask_as(tenant, download(&reference, 0, 100)).await;
        assert_eq!(code, -4, "{tenant}");
        let (code, _) = studio.ask_as(tenant, upload("text/plain", tenant.as_bytes())).await;
        assert_eq!(code, 0, "{tenant}");
    }
    let mut top: Vec<_> = std::fs::read_dir(studio.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    top.sort();
    assert_eq!(top, ["objects", "parts", "records"]);
}

#[tokio::test]
async fn what_is_no_reference_and_no_media_type_is_malformed() {
    let studio = Studio::open(&BOTH).await;
    for reference in [
        "",
        "media://",
        "media:///etc/passwd",
        "media://../../etc/passwd",
        "file:///etc/passwd",
        "media://a\u{0}",
    ] {
        let (code, text) = studio.refusal(download(reference, 0, 100)).await;
        assert_eq!(code, -3, "{reference}: {text}");
    }
    let (code, text) = studio.refusal(download("s3://bucket/key", 0, 100)).await;
    assert_eq!((code, text.contains("is not the bucket `bucket`")), (-4, true), "{text}");
    for media_type in ["", "png", "image/", "image/png\n"] {
        let (code, text) = studio.refusal(upload(media_type, b"x")).await;
        assert_eq!((code, text.contains("no media type")), (-3, true), "{media_type}: {text}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_no_file_is_the_name_of_nothing() {
    let studio = Studio::open(&BOTH).await;
    studio.put("pictures/cat.png", b"a cat");
    let long = format!("media://{}", ["a".repeat(240).as_str(); 3].join("/"));
    for name in ["media://pictures", "media://pictures/cat.png/more", "media://nothing/at/all", &long] {
        let (code, text) = studio.refusal(download(name, 0, 100)).await;
        assert_eq!((code, text.contains("there is no object")), (-4, true), "{name}: {text}");
    }
    assert_eq!(studio.runtime.media_counts().failed, 0);
}

#[tokio::test]
async fn objects_and_tenants_have_their_limits() {
    let studio = Studio::with(&BOTH, |config| {
        config.object = ByteCount(1000);
        config.per_tenant = ByteCount(2500);
    })
    .await;
    studio.put("pictures/large.png", &content(1001));
    let (code, text) = studio.refusal(download("media://pictures/large.png", 0, 100)).await;
    assert_eq!((code, text.contains("`media.object_bytes`")), (-5, true), "{text}");
    let (code, text) = studio.refusal(upload("image/png", &content(1001))).await;
    assert_eq!((code, text.contains("more than 1000 bytes")), (-5, true), "{text}");
    let (one, two) = (content(1000), vec![7; 1000]);
    studio.store("image/png", &one).await;
    studio.store("image/png", &two).await;
    let (code, text) = studio.refusal(upload("image/png", &[8; 1000])).await;
    assert_eq!((code, text.contains("`media.bytes_per_tenant`")), (-6, true), "{text}");
    // What lies there once counts once.
    let small = vec![9; 250];
    for _ in 0..5 {
        studio.store("image/png", &small).await;
    }
    assert_eq!(studio.ask_as("other", upload("image/png", &one)).await.0, 0);
    // The same after a restart: it is counted what is there.
    let place = MediaPlace::Directory(studio.folder.path().into());
    let again = Studio::with(&BOTH, |config| {
        config.place = place;
        config.per_tenant = ByteCount(2500);
    })
    .await;
    assert_eq!(again.refusal(upload("image/png", &[8; 1000])).await.0, -6);
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_never_handed_out_as_whole() {
    let studio = Studio::open(&BOTH).await;
    let content = content(1_500_000);
    let reference = studio.store("image/png", &content).await;
    let path = studio.path(&reference["media://".len()..]);
    for damage in ["changed", "cut off", "gone on"] {
        let mut damaged = content.clone();
        match damage {
            "changed" => damaged[700_000] ^= 1,
            "cut off" => damaged.truncate(1_400_000),
            _ => damaged.extend(b"more"),
        }
        std::fs::write(&path, damaged).unwrap();
        let (code, text) = studio.refusal(download(&reference, 0, 100_000)).await;
        assert_eq!((code, text.contains("not what its digest says")), (-8, true), "{damage}: {text}");
        // From the middle, or the last byte alone: the rest is looked at first.
        for from in [600_000, 1_399_999] {
            let (code, text) = studio.refusal(download(&reference, from, 10)).await;
            assert_eq!((code, text.contains("not what its digest says")), (-8, true), "{damage}: {text}");
        }
        let whole = studio.ask_component(b'd', "", reference.as_bytes()).await.unwrap_err();
        assert!(whole.starts_with('7') && whole.contains("not what its digest says"), "{whole}");
    }
    assert_eq!(studio.runtime.media_counts().damaged, 12);
    // Stored again, it is whole again.
    studio.store("image/png", &content).await;
    let (code, read) = studio.ask(download(&reference, 1_000_000, 100_000)).await;
    assert_eq!((code, read[..] == content[1_000_000..]), (0, true));
}

#[tokio::test]
async fn an_object_larger_than_all_memory_is_read_in_pieces() {
    let studio = Studio::open(&BOTH).await;
    studio.put("videos/long.mp4", b"");
    let file = std::fs::File::options().write(true).open(studio.path("videos/long.mp4")).unwrap();
    file.set_len(1 << 30).unwrap();
    let before = peak_memory();
    let (code, counted) = studio.ask(count("media://videos/long.mp4")).await;
    assert_eq!((code, &counted[..]), (0, &(1_u32 << 30).to_le_bytes()[..]));
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes for a guest of 8 MB");
    let (code, text) = studio.refusal(download("media://videos/long.mp4", 0xffff_ffff, 10)).await;
    assert_eq!(code, -61, "{text}");
    // A component is given no more at once than its own memory could hold.
    let whole = studio.ask_component(b'd', "", b"media://videos/long.mp4").await.unwrap_err();
    assert!(whole.starts_with('4') && whole.contains("in parts"), "{whole}");
}

#[tokio::test]
async fn what_is_fetched_is_paid_for_and_so_is_what_is_looked_at_for_a_single_byte() {
    let studio = Studio::open(&BOTH).await;
    let content = content(1_900_000);
    let reference = studio.store("image/png", &content).await;
    let fuel = async |input| studio.run_as("default", input).await.usage.fuel.unwrap().0;
    let least = fuel(download("media://sha256/x", 0, 1)).await;
    for input in [download(&reference, 1_899_999, 1), count(&reference), upload("image/png", &content)] {
        let cost = fuel(input).await - least;
        assert!(cost > 1_900_000 / 4 && cost < 1_900_000 / 2, "{cost}");
    }
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn a_large_upload_becomes_an_object_all_at_once_and_leaves_nothing_beside() {
    let studio = Studio::open(&BOTH).await;
    let zeros = vec![0; 12_000_000];
    let (code, output) = studio.ask(upload_zeros(12_000_000, "video/mp4")).await;
    assert_eq!(code, 0);
    assert_eq!(output, reference_of(&zeros));
    let path = studio.path(&reference_of(&zeros)["media://".len()..]);
    assert_eq!(std::fs::metadata(path).unwrap().len(), 12_000_000);
    assert_eq!(left_in(studio.folder.path().join("parts/default")), 0);
}

fn left_in(folder: std::path::PathBuf) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_grant_reads_and_stores_in_parts() {
    let studio = Studio::open(&["media:read:pictures/", "media:write:sha256/"]).await;
    studio.put("pictures/cat.png", b"a small cat");
    let open = r#"{"op":"open","reference":"media://pictures/cat.png"}"#;
    let read = |rest: &str| format!(r#"{{"op":"read","object":1{rest}}}"#);
    let (code, told) = studio.use_grant(&["media:read:pictures/", open]).await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["size"], &told["type"]), (0, &11.into(), &"application/octet-stream".into()));
    assert_eq!(told["reference"], "media://pictures/cat.png");
    let whole = studio.use_grant(&["media:read:pictures/", open, &read("")]).await;
    assert_eq!(whole, (0, "a small cat".into()));
    let part = studio.use_grant(&["media:read:pictures/", open, &read(r#","offset":2,"length":5"#)]).await;
    assert_eq!(part, (0, "small".into()));
    let close = r#"{"op":"close","object":1}"#;
    assert_eq!(studio.use_grant(&["media:read:pictures/", open, close, &read("")]).await.0, -9);
    let begin = r#"{"op":"begin","type":"image/png"}"#;
    let write = r#"{"op":"write","upload":1,"data":"a cat "}"#;
    let more = r#"{"op":"write","upload":1,"data_base64":"YW5kIGEgZG9n"}"#;
    let finish = r#"{"op":"finish","upload":1}"#;
    let (code, told) = studio.use_grant(&["media:write:sha256/", begin, write, more, finish]).await;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["size"]), (0, &15.into()));
    assert_eq!(told["reference"], reference_of(b"a cat and a dog"));
    for (lines, says) in [
        (["media:read:pictures/cats/", open], "the grant is for `media:read:pictures/cats/`"),
        (["media:write:sha256/", open], "the grant is for `media:write:sha256/`"),
        (["media:read:pictures/", begin], "the grant is for `media:read:pictures/`"),
    ] {
        let (code, text) = studio.use_grant(&lines).await;
        assert_eq!((code, text.contains(says)), (-2, true), "{text}");
    }
    for (arguments, code) in [
        (r#"{"op":"read","object":1}"#, -9),
        (r#"{"op":"read"}"#, -3),
        (r#"{"op":"open"}"#, -3),
        (r#"{"op":"open","reference":"media://pictures/cat.png","length":1}"#, -3),
        (r#"{"op":"look"}"#, -3),
        (r#"{"op":"open","reference":"media://pictures/cat.png","path":"x"}"#, -3),
    ] {
        assert_eq!(studio.use_grant(&["media:read:pictures/", arguments]).await.0, code, "{arguments}");
    }
    let (code, text) = studio.use_grant(&[&["media:read:pictures/"][..], &[open; 9]].concat()).await;
    assert_eq!((code, text.contains("8 objects are open")), (-6, true), "{text}");
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_and_takes_no_room() {
    let studio = Studio::with(&BOTH, |config| config.per_tenant = ByteCount(20 << 20)).await;
    let begin = r#"{"op":"begin","type":"video/mp4"}"#;
    let piece = format!(r#"{{"op":"write","upload":1,"data":"{}"}}"#, "x".repeat(400_000));
    let lines = [&["media:write:", begin][..], &[piece.as_str(); 2]].concat();
    for _ in 0..3 {
        assert_eq!(studio.use_grant(&lines).await.0, 0);
    }
    // More than a part, so that some of it is with the store already.
    let loaded = studio.use_grant(&[&lines[..2], &[&*piece; 2]].concat()).await;
    assert_eq!(loaded.0, 0);
    for _ in 0..3 {
        assert_eq!(studio.ask(upload_zeros(19_000_000, "video/mp4")).await.0, 0);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(left_in(studio.folder.path().join("parts/default")), 0);
}

#[tokio::test]
async fn components_read_and_store_by_the_same_functions() {
    let studio = Studio::open(&["media:read:sha256/", "media:read:pictures/", "media:write:"]).await;
    let content = content(100);
    let reference = studio.ask_component(b'u', "image/png", &content).await.unwrap();
    assert_eq!(reference, reference_of(&content).into_bytes());
    assert_eq!(studio.ask_component(b'd', "", &reference).await.unwrap(), content);
    let opened = studio.ask_component(b'o', "", &reference).await.unwrap();
    assert_eq!(opened, [b"image/png", &content[..]].concat());
    let twice = [content.clone(), content].concat();
    let reference = studio.ask_component(b'w', "image/jpeg", &twice[..100]).await.unwrap();
    assert_eq!(reference, reference_of(&twice).into_bytes());
    assert_eq!(
        studio.ask_component(b'o', "", &reference).await.unwrap(),
        [b"image/jpeg", &twice[..]].concat()
    );
    for (op, first, rest, says) in [
        (b'd', "", &b"media://private/x"[..], "0capability `media:read:private/x` is not in the manifest"),
        (b'o', "", b"media://pictures/x", "3there is no object `media://pictures/x`"),
        (b'u', "png", b"x", "2`png` is no media type"),
        (b'w', "png", b"x", "2`png` is no media type"),
    ] {
        let error = studio.ask_component(op, first, rest).await.unwrap_err();
        assert!(error.starts_with(says), "{error}");
    }
}

#[tokio::test]
async fn what_agents_stored_goes_when_its_time_is_over_and_what_others_put_there_stays() {
    let hour = Duration::from_secs(3600);
    let studio = Studio::with(&BOTH, |config| {
        config.retention = Some(hour);
        config.per_tenant = ByteCount(1000);
    })
    .await;
    studio.put("pictures/cat.png", b"a cat");
    let (old, new) = (studio.store("text/plain", &[1; 600]).await, studio.store("text/plain", b"new").await);
    let age = |name: &str| {
        let file = std::fs::File::options().write(true).open(studio.path(name)).unwrap();
        file.set_modified(SystemTime::now() - 2 * hour).unwrap();
    };
    age("pictures/cat.png");
    age(&old["media://".len()..]);
    assert_eq!(studio.refusal(upload("text/plain", &[2; 600])).await.0, -6);
    studio.runtime.sweep_media().await;
    assert_eq!(studio.refusal(download(&old, 0, 100)).await.0, -4);
    assert_eq!(studio.ask(download(&new, 0, 100)).await.0, 0);
    assert_eq!(studio.ask(download("media://pictures/cat.png", 0, 100)).await.0, 0);
    assert_eq!(studio.ask(upload("text/plain", &[2; 600])).await.0, 0);
    assert_eq!(studio.runtime.media_counts().expired, 1);
}

#[tokio::test]
async fn what_a_killed_server_left_of_uploads_is_gone_when_it_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts/default");
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join("019a#1"), "half of a video").unwrap();
    let place = MediaPlace::Directory(folder.path().into());
    let _studio = Studio::with(&BOTH, |config| config.place = place).await;
    assert!(!parts.exists());
}

#[tokio::test]
async fn a_users_own_directory_has_its_objects_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cat.png"), "a cat").unwrap();
    let place = MediaPlace::Own(folder.path().into());
    let studio = Studio::with(&BOTH, |config| config.place = place).await;
    let (code, read) = studio.ask(download("media://cat.png", 0, 100)).await;
    assert_eq!((code, &read[..]), (0, &b"a cat"[..]));
    let reference = studio.store("image/png", b"a dog").await;
    let stored = folder.path().join(&reference["media://".len()..]);
    assert_eq!(std::fs::read(stored).unwrap(), b"a dog");
    let reserved = format!("media://.mentat/records/{}", &reference["media://".len()..]);
    assert_eq!(studio.refusal(download(&reserved, 0, 100)).await.0, -3);
}

#[tokio::test]
async fn without_a_store_nothing_is_asked_for_and_the_guest_is_told() {
    let studio = Studio::with(&BOTH, |config| config.place = MediaPlace::Nowhere).await;
    for input in [download("media://cat.png", 0, 100), upload("image/png", b"x")] {
        let (code, text) = studio.refusal(input).await;
        assert_eq!((code, text.contains("there is no media store here")), (-38, true), "{text}");
    }
}
