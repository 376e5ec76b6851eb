use wire::WallTime;
use wire::graph::{Component, ComponentKind};

use super::*;

fn build() -> Build {
    Build { versions: BTreeMap::from([("hub".into(), 2)]), graph: graph("g"), decides_by: BTreeMap::new() }
}

fn graph(component: &str) -> Graph {
    let (name, stage) = (component.to_owned(), "s".to_owned());
    Graph {
        components: vec![Component { name, kind: ComponentKind::Bolt, stage, saves: None, tracks: false }],
        edges: Vec::new(),
    }
}

fn change(key: &str, state: Option<&str>) -> Change {
    Change { key: key.into(), state: state.map(|state| state.as_bytes().to_vec()) }
}

fn write(checksums: &mut Checksums, position: u64, changes: Vec<Change>) -> Vec<Outgoing> {
    let topic: Arc<str> = "snap".into();
    let mut writer = Writer::new(&topic, 0, checksums);
    for change in changes {
        writer.change(change);
    }
    writer.end(LaneHead {
        position,
        graph: graph("g"),
        decides_by: BTreeMap::new(),
        components: build().versions,
        settings: serde_json::json!({}),
        sent: BTreeMap::new(),
    })
}

fn take(image: &mut Image, records: &[Outgoing]) {
    for record in records {
        let offset = image.next;
        image.take(&Record {
            topic: Arc::clone(&record.topic),
            partition: 0,
            offset,
            time: WallTime(0),
            key: record.key.clone(),
            headers: record.headers.clone(),
            value: record.value.clone(),
        });
    }
}

fn states(image: &Image) -> Vec<(String, usize)> {
    image.states().map(|state| state.map(|(key, state)| (key.to_owned(), state.len())).unwrap()).collect()
}

#[test]
fn the_last_record_of_each_key_is_the_snapshot() {
    let (mut checksums, mut image) = (Checksums::default(), Image::default());
    assert_eq!(image.head(&build()), Ok(None));
    take(&mut image, &write(&mut checksums, 5, vec![change("hub/a", Some("1")), change("hub/b", Some("22"))]));
    let second =
        write(&mut checksums, 9, vec![change("hub/a", None), change("hub/c", Some("333")), change("hub/d", None)]);
    assert_eq!(second.len(), 3, "a key that was never written is not deleted");
    take(&mut image, &second);
    let head = image.head(&build()).unwrap().unwrap();
    assert_eq!((head.lane.position, image.check(&head)), (9, Ok(())));
    assert_eq!(states(&image), [("hub/b".to_owned(), 2), ("hub/c".to_owned(), 3)]);
    // A new owner writes the same records as the previous one.
    let mut standby = image.checksums();
    let more = || vec![change("hub/b", None), change("hub/e", Some("1"))];
    assert_eq!(write(&mut standby, 11, more()), write(&mut checksums, 11, more()));
}

#[test]
fn a_state_of_any_size_is_restored_and_leaves_no_stale_parts() {
    let (mut checksums, mut image) = (Checksums::default(), Image::default());
    for size in [3 * PART_BYTES, PART_BYTES + 1, PART_BYTES, 10, 2 * PART_BYTES, 0] {
        let state = (size > 0).then(|| "x".repeat(size));
        take(&mut image, &write(&mut checksums, 1, vec![change("hub/a", state.as_deref())]));
        let head = image.head(&build()).unwrap().unwrap();
        assert_eq!(image.check(&head), Ok(()), "{size}");
        let expected: Vec<_> = state.iter().map(|state| ("hub/a".to_owned(), state.len())).collect();
        assert_eq!(states(&image), expected);
        assert_eq!(image.entries.len(), size.div_ceil(PART_BYTES) + 1);
    }
}

#[test]
fn corrupt_records_are_named() {
    let (mut checksums, mut image) = (Checksums::default(), Image::default());
    take(&mut image, &write(&mut checksums, 5, vec![change("hub/a", Some("1")), change("hub/b", Some("22"))]));
    let head = image.head(&build()).unwrap().unwrap();
    let with = |change: &dyn Fn(&mut Image)| {
        let mut image = image.clone();
        change(&mut image);
        image.check(&head).unwrap_err().to_string()
    };
    let flipped = with(&|image| image.entries.get_mut("hub/b").unwrap().value = Bytes::from_static(b"23"));
    assert_eq!(flipped, "1 records have wrong checksums: `hub/b`");
    let unsigned = with(&|image| image.entries.get_mut("hub/a").unwrap().sum = None);
    assert_eq!(unsigned, "1 records have wrong checksums: `hub/a`");
    let missing = with(&|image| drop(image.entries.remove("hub/a")));
    assert_eq!(missing, "the snapshot of offset 5 has 2 records, but the topic has 1, or other ones");
}

#[test]
fn a_snapshot_of_a_newer_build_is_not_read() {
    let (mut checksums, mut image) = (Checksums::default(), Image::default());
    take(&mut image, &write(&mut checksums, 5, vec![change("hub/a", Some("1"))]));
    for (versions, expected) in [
        (
            BTreeMap::from([("hub".into(), 1)]),
            "the state of `hub` has schema version 2; this build reads versions up to 1",
        ),
        (BTreeMap::new(), "this build has no component with saved state `hub`"),
    ] {
        assert_eq!(image.head(&Build { versions, ..build() }), Err(RestoreError::Incompatible(expected.into())));
    }
    let other = Build { graph: graph("h"), ..build() };
    assert!(
        matches!(image.head(&other), Err(RestoreError::Incompatible(reason)) if reason.ends_with("lacks: bolt g in stage s"))
    );
    let value = Bytes::from_static(br#"{"format":2}"#);
    let sum = Some(Checksum::of(HEAD, &value));
    image.entries.insert(HEAD.into(), StoredRecord { sum, parts: 1, value });
    let newer = "its records have schema version 2; this build reads versions up to 1";
    assert_eq!(image.head(&build()), Err(RestoreError::Incompatible(newer.into())));
}

/// Otherwise the lane would wait for a person, who would look for a newer build.
#[test]
fn a_head_with_a_corrupt_version_is_corrupt_not_newer() {
    let (mut checksums, mut image) = (Checksums::default(), Image::default());
    take(&mut image, &write(&mut checksums, 5, vec![change("hub/a", Some("1"))]));
    let written = String::from_utf8(image.entries[HEAD].value.to_vec()).unwrap();
    for (was, is) in [(r#""format":1"#, r#""format":2"#), (r#""hub":2"#, r#""hub":3"#), (r#""hub":2"#, r#""hup":2"#)] {
        let mark_unusable = written.replacen(was, is, 1);
        assert_ne!(mark_unusable, written);
        image.entries.get_mut(HEAD).unwrap().value = mark_unusable.into();
        assert_eq!(image.head(&build()), Err(RestoreError::Corrupt("the checksum of its head is wrong".into())));
    }
}

#[test]
fn the_next_snapshot_deletes_the_rest_of_an_unusable_one() {
    let (mut checksums, mut image) = (Checksums::default(), Image::default());
    take(&mut image, &write(&mut checksums, 5, vec![change("hub/a", Some("1")), change("hub/b", Some("22"))]));
    image.entries.get_mut("hub/a").unwrap().value = Bytes::from_static(b"2");
    let mut fresh = image.checksums().mark_unusable();
    take(&mut image, &write(&mut fresh, 9, vec![change("hub/b", Some("4"))]));
    let head = image.head(&build()).unwrap().unwrap();
    assert_eq!((image.check(&head), states(&image)), (Ok(()), vec![("hub/b".to_owned(), 1)]));
}

const BLOCK: &str = r#"[{"timer":200,"generation":2,"after_ms":1500,"offset":40,"at":1795226400000}]"#;

/// Key, value and headers of each record.
type Golden = [(&'static str, &'static str, &'static [(&'static str, &'static str)]); 3];

const FORM_1: Golden = [
    (".timers/coordinator@hub/3", BLOCK, &[("nave-xxh3", "cfe1473a14b3d1bc")]),
    ("hub/running/7", r#"{"state":"working"}"#, &[("nave-xxh3", "c02ae737c312db53")]),
    (
        ".lane",
        r#"{"format":1,"position":41,"graph":{"components":[{"name":"g","kind":"bolt","stage":"s"}],"edges":[]},"decides_by":{},"components":{"hub":2},"settings":{"hub":{"live":4}},"sent":{"hub/calls>worker":12},"records":2,"sum":"0fcba00dd7a10aef"}"#,
        &[("nave-xxh3", "9ef2097bb0ade38e"), ("nave-covers", "41")],
    ),
];

fn records(golden: Golden) -> Vec<Outgoing> {
    let record = |(key, value, headers): (&str, &'static str, &[(&str, &str)])| {
        Outgoing::packed_with("snap".into(), Route::To(0), key, headers, Bytes::from_static(value.as_bytes()))
    };
    golden.into_iter().map(record).collect()
}

/// A changed record layout needs a new schema version.
#[test]
fn written_records_match_their_schema_version() {
    let mut checksums = Checksums::default();
    let mut writer = Writer::new(&"snap".into(), 0, &mut checksums);
    writer.change(change(&timers_key("coordinator@hub", 3), Some(FORM_1[0].1)));
    writer.change(change("hub/running/7", Some(FORM_1[1].1)));
    let written = writer.end(LaneHead {
        position: 41,
        graph: graph("g"),
        decides_by: BTreeMap::new(),
        components: build().versions,
        settings: serde_json::json!({ "hub": { "live": 4 } }),
        sent: BTreeMap::from([("hub/calls>worker".into(), 12)]),
    });
    assert_eq!(written, records(FORM_1));
}

/// A build continues the lane that an older build saved, and keeps unchanged records as they
/// are.
#[test]
fn a_golden_snapshot_is_read_and_continued() {
    let mut image = Image::default();
    take(&mut image, &records(FORM_1));
    let head = image.head(&build()).unwrap().unwrap();
    assert_eq!((image.check(&head), head.lane.sent.len()), (Ok(()), 1));
    let timers: Vec<_> = image.timers().map(Result::unwrap).collect();
    assert_eq!(timers, [("coordinator@hub", 3, BLOCK.as_bytes())]);
    assert!(serde_json::from_str::<Vec<crate::timers::SavedTimer>>(BLOCK).is_ok());
    let mut standby = image.checksums();
    take(&mut image, &write(&mut standby, 50, vec![change("hub/running/7", Some("other"))]));
    let head = image.head(&build()).unwrap().unwrap();
    assert_eq!((image.check(&head), head.lane.position, image.entries.len()), (Ok(()), 50, 3));
    image.entries.get_mut(".timers/coordinator@hub/3").unwrap().value = Bytes::from_static(b"[]");
    let mark_unusable = "1 records have wrong checksums: `.timers/coordinator@hub/3`";
    assert_eq!(image.check(&head), Err(RestoreError::Corrupt(mark_unusable.into())));
}
