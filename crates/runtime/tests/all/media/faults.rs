//! A bucket in place of a directory: a service of S3 as it should be, and one that stalls, fails, breaks off, or answers
//! with something else. In each case the guest is told within its time.

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::StatusCode;
use mentat_manifest::LimitsRequest;
use mentat_runtime::error::Reason;
use mentat_runtime::{BucketCredentials, MediaPlace, NetworkConfig};

use super::services::{BUCKET, Fault, S3};
use super::studio::{Studio, count, download, upload, upload_zeros};
use super::{BOTH, content, reference_of};

async fn studio_of(s3: &S3) -> Studio {
    let place = MediaPlace::Bucket(s3.bucket());
    Studio::with(&BOTH, |config| {
        config.place = place;
        config.timeout = Duration::from_secs(1);
    })
    .await
}

#[tokio::test]
async fn a_bucket_is_read_and_written_as_a_directory_is() {
    let s3 = S3::start().await;
    let studio = studio_of(&s3).await;
    for length in [0, 1000, 700_000] {
        let content = content(length);
        let reference = studio.store("image/png", &content).await;
        assert_eq!(reference, reference_of(&content));
        let (code, read) = studio.ask(download(&reference, 0, 100_000)).await;
        assert_eq!((code, read == content), (0, true), "{length}");
    }
    // In parts, the last of which is a small one.
    let (code, reference) = studio.ask(upload_zeros(12_000_000, "video/mp4")).await;
    assert_eq!((code, &reference[..]), (0, reference_of(&vec![0; 12_000_000]).as_bytes()));
    let reference = String::from_utf8(reference.to_vec()).unwrap();
    let (code, counted) = studio.ask(count(&reference)).await;
    assert_eq!((code, &counted[..]), (0, &12_000_000_u32.to_le_bytes()[..]));
    // What is stored by parts that nobody knew the digest of before.
    let twice = studio.ask_component(b'w', "image/jpeg", &content(1000)).await.unwrap();
    let opened = studio.ask_component(b'o', "", &twice).await.unwrap();
    assert_eq!(opened, [&b"image/jpeg"[..], &content(1000), &content(1000)].concat());
    assert_eq!(studio.ask_as("other", download(&reference, 0, 100)).await.0, -4);
    assert_eq!(studio.refusal(download("media://pictures/cat.png", 0, 100)).await.0, -4);
    // One connection is used for many requests.
    let (requests, connections) = (&s3.requests, &s3.connections);
    let (requests, connections) = (requests.load(Ordering::SeqCst), connections.load(Ordering::SeqCst));
    assert!(requests > 20 && connections < 5, "{requests} requests on {connections} connections");
}

#[tokio::test]
async fn a_service_is_believed_by_the_roots_of_the_network_and_by_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (s3, roots) = S3::start_encrypted(folder.path()).await;
    for (roots, code) in [(Some(roots), 0), (None, -8)] {
        let network = NetworkConfig {
            hosts: [("localhost".to_owned(), vec![Ipv4Addr::LOCALHOST.into()])].into(),
            roots,
            ..NetworkConfig::default()
        };
        let place = MediaPlace::Bucket(s3.bucket());
        let studio = Studio::on(network, &BOTH, |config| config.place = place).await;
        assert_eq!(studio.ask(upload("text/plain", b"x")).await.0, code);
    }
}

#[tokio::test]
async fn objects_of_the_bucket_are_referred_to_by_their_keys_as_well() {
    let s3 = S3::start().await;
    let studio = studio_of(&s3).await;
    let folder = s3.folder.path().join(BUCKET).join("mentat/objects/default/pictures");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cat.png"), "a cat").unwrap();
    let (code, read) = studio.ask(download("media://pictures/cat.png", 0, 100)).await;
    assert_eq!((code, &read[..]), (0, &b"a cat"[..]));
    let key = "mentat/objects/default/pictures/cat.png";
    let (code, read) = studio.ask(download(&format!("s3://{BUCKET}/{key}"), 0, 100)).await;
    assert_eq!((code, &read[..]), (0, &b"a cat"[..]));
    for (reference, says) in [
        (format!("s3://other/{key}"), "is not the bucket `other`"),
        (format!("s3://{BUCKET}/mentat/objects/other/pictures/cat.png"), "there is no object"),
        (format!("s3://{BUCKET}/mentat/objects/default/../other/x"), "as a component"),
    ] {
        let (code, text) = studio.refusal(download(&reference, 0, 100)).await;
        assert!(code < 0 && text.contains(says), "{reference}: {code} {text}");
    }
}

#[tokio::test]
async fn what_has_been_kept_for_long_enough_goes_from_a_bucket_too() {
    let s3 = S3::start().await;
    let place = MediaPlace::Bucket(s3.bucket());
    let studio = Studio::with(&BOTH, |config| {
        config.place = place;
        config.retention = Some(Duration::from_secs(3600));
    })
    .await;
    let (old, new) = (studio.store("text/plain", b"old").await, studio.store("text/plain", b"new").await);
    let path = s3.folder.path().join(BUCKET).join("mentat/objects/default").join(&old["media://".len()..]);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
    studio.runtime.sweep_media().await;
    assert_eq!(studio.refusal(download(&old, 0, 100)).await.0, -4);
    assert_eq!(studio.ask(download(&new, 0, 100)).await.0, 0);
    assert_eq!(studio.runtime.media_counts().expired, 1);
}

#[tokio::test]
async fn a_service_that_stalls_is_told_of_within_its_time() {
    let s3 = S3::start().await;
    let mut studio = studio_of(&s3).await;
    let reference = studio.store("text/plain", &content(10_000)).await;
    for (fault, input) in [
        (Fault::Stall, download(&reference, 0, 100)),
        (Fault::Stall, upload("text/plain", b"x")),
        (Fault::StallWithin, download(&reference, 0, 100)),
    ] {
        s3.misbehave(fault);
        let begin = Instant::now();
        let (code, text) = studio.refusal(input).await;
        assert_eq!((code, text.contains("did not answer within 1000 ms")), (-7, true), "{fault:?}: {text}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{fault:?}: {:?}", begin.elapsed());
    }
    assert_eq!(studio.runtime.media_counts().failed, 3);
    // The execution's own time ends a call that waits, whatever the store's is.
    s3.misbehave(Fault::Stall);
    let soon = Duration::from_millis(200);
    studio.world.limits(&LimitsRequest { timeout: Some(soon), ..LimitsRequest::default() });
    assert_eq!(studio.reason(download(&reference, 0, 100)).await, Reason::Timeout);
    s3.misbehave(Fault::None);
    assert_eq!(studio.ask(download(&reference, 0, 100)).await.0, 0);
}

#[tokio::test]
async fn a_service_that_fails_for_a_moment_is_asked_again_and_one_that_goes_on_is_told_of() {
    let s3 = S3::start().await;
    let studio = studio_of(&s3).await;
    let reference = studio.store("text/plain", &content(10_000)).await;
    for fault in [Fault::Status(StatusCode::INTERNAL_SERVER_ERROR, 1), Fault::HangUp] {
        s3.misbehave(fault);
        assert_eq!(studio.ask(download(&reference, 0, 100)).await.0, 0, "{fault:?}");
        s3.misbehave(fault);
        assert_eq!(studio.ask(upload("text/plain", b"x")).await.0, 0, "{fault:?}");
    }
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE, StatusCode::FORBIDDEN]
    {
        s3.misbehave(Fault::Status(status, 100));
        for input in
            [download(&reference, 0, 100), upload("text/plain", b"y"), upload_zeros(12_000_000, "a/b")]
        {
            let (code, text) = studio.refusal(input).await;
            assert_eq!((code, text.as_str()), (-8, "the media store failed; the server's log says why"));
        }
    }
}

#[tokio::test]
async fn what_breaks_off_or_is_something_else_is_never_taken_for_whole() {
    let s3 = S3::start().await;
    let studio = studio_of(&s3).await;
    let reference = studio.store("text/plain", &content(1_000_000)).await;
    s3.misbehave(Fault::CutOff);
    let (code, text) = studio.refusal(download(&reference, 0, 100_000)).await;
    assert!(code == -8 || code == -7, "{code} {text}");
    s3.misbehave(Fault::Flip);
    let (code, text) = studio.refusal(download(&reference, 0, 100_000)).await;
    assert_eq!((code, text.contains("not what its digest says")), (-8, true), "{text}");
    assert_eq!(studio.runtime.media_counts().damaged, 1);
    s3.misbehave(Fault::None);
    let (code, read) = studio.ask(download(&reference, 0, 100_000)).await;
    assert_eq!((code, read == content(1_000_000)), (0, true));
}

#[tokio::test]
async fn a_service_that_knows_the_caller_for_another_gives_nothing() {
    let s3 = S3::start().await;
    let mut bucket = s3.bucket();
    bucket.credentials = Some(BucketCredentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "another".into(),
        session_token: None,
    });
    for credentials in [bucket.credentials.clone(), None] {
        let place = MediaPlace::Bucket(mentat_runtime::BucketConfig { credentials, ..bucket.clone() });
        let studio = Studio::with(&BOTH, |config| config.place = place).await;
        let (code, text) = studio.refusal(upload("text/plain", b"x")).await;
        assert_eq!((code, text.as_str()), (-8, "the media store failed; the server's log says why"));
    }
}
