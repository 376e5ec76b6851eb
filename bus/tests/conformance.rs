//! The conformance suite: tests that run on every bus (embedded, embedded on disk, behind fault
//! injection without faults, Kafka).
//!
//! The tests on Kafka need a broker: run `./test` or `tools/kafka start`.

#[path = "conformance/fixture.rs"]
mod fixture;

#[path = "conformance/commits.rs"]
mod commits;
#[path = "conformance/followers.rs"]
mod followers;
#[path = "conformance/groups.rs"]
mod groups;
#[path = "conformance/named.rs"]
mod named;
#[path = "conformance/on_kafka.rs"]
mod on_kafka;
#[path = "conformance/owners.rs"]
mod owners;
#[path = "conformance/readers.rs"]
mod readers;
#[path = "conformance/records.rs"]
mod records;
#[path = "conformance/topics.rs"]
mod topics;
#[path = "conformance/waiting.rs"]
mod waiting;

/// Makes one test per function and implementation.
macro_rules! on_every_bus {
    ($($behaviour:ident { $($test:ident,)+ })+) => {
        mod embedded {
            $($(
                #[test]
                fn $test() {
                    super::$behaviour::$test(&super::fixture::OnEmbedded::open());
                }
            )+)+
        }
        mod on_disk {
            $($(
                #[test]
                fn $test() {
                    super::$behaviour::$test(&super::fixture::OnDisk::open());
                }
            )+)+
        }
        mod faulty {
            $($(
                #[test]
                fn $test() {
                    super::$behaviour::$test(&super::fixture::OnFaulty::open());
                }
            )+)+
        }
        mod kafka {
            $($(
                #[test]
                fn $test() {
                    super::$behaviour::$test(&super::fixture::OnKafka::open());
                }
            )+)+
        }
    };
}

on_every_bus! {
    topics {
        a_topic_is_created_once_and_found_again,
        a_topic_with_another_partition_count_is_refused,
        a_topic_with_an_unsuitable_cleanup_policy_is_refused,
        a_compacted_topic_is_known_as_such,
        only_ensure_topic_creates_a_topic,
        an_impossible_topic_name_is_an_unknown_topic,
        an_unknown_partition_is_an_error,
        bounds_are_the_low_watermark_and_the_end,
    }
    records {
        keys_are_routed_as_the_java_client_routes_them,
        a_record_goes_to_its_partition_or_without_key_to_partition_0,
        key_headers_and_value_arrive_byte_for_byte,
        an_envelope_survives_the_bus,
        records_of_a_partition_keep_their_order,
        a_record_carries_the_time_of_its_append,
        a_too_large_record_fails_the_whole_append,
    }
    commits {
        outputs_are_visible_only_after_their_commit_and_completely,
        a_commit_with_one_bad_record_writes_nothing,
        the_next_owner_finds_the_position_and_its_metadata,
        a_commit_without_positions_writes_its_records,
        an_empty_commit_has_no_effect,
        readers_skip_the_offset_gaps_that_commits_leave,
        asynchronous_commits_take_effect_eventually,
        too_long_offset_metadata_is_refused,
    }
    groups {
        a_group_counts_the_members_that_joined_and_did_not_leave,
        a_lone_member_gets_every_partition,
        a_member_has_joined_after_the_first_decision_of_the_group,
        no_record_of_a_partition_arrives_before_it_is_started,
        a_partition_starts_at_the_given_offset,
        a_partition_with_a_deleted_beginning_starts_at_the_low_watermark,
        a_partition_can_be_rewound_repeatedly,
        a_new_member_gets_its_share_and_no_other_partition_moves,
        joining_and_leaving_members_move_as_few_partitions_as_possible,
        an_owner_may_commit_between_revoking_and_release,
        a_commit_with_one_partition_not_owned_is_fenced_as_a_whole,
        no_record_arrives_after_revoking,
        a_poll_for_zero_records_delivers_group_decisions,
        the_backlog_of_a_group_is_what_it_has_not_committed,
        partitions_of_a_leaving_member_go_to_the_others,
        members_share_the_records_and_lose_none,
        a_partition_not_owned_cannot_be_started_or_taken_over,
    }
    owners {
        a_takeover_of_a_dropped_member_starts_at_its_last_commit,
        a_silent_owner_loses_its_partitions_and_is_fenced,
        a_commit_that_moves_nothing_is_fenced_too,
        a_member_learns_that_its_partitions_are_lost_and_rejoins,
        a_new_instance_of_a_member_continues_at_the_last_commit,
    }
    readers {
        a_reader_follows_several_partitions_in_order,
        a_reader_starts_in_the_middle_and_can_be_moved,
        a_reader_waits_for_records,
        an_unassigned_partition_is_not_read,
        a_compacted_topic_keeps_the_last_record_of_each_key,
        reading_deleted_records_is_an_error,
        needed_records_are_readable_after_a_trim,
        an_offset_past_the_end_is_refused,
    }
    followers {
        a_follower_begins_at_the_given_start,
        a_follower_begins_at_a_time,
        a_follower_can_tell_old_records_from_new_ones,
        an_unfollowed_topic_is_not_read,
        a_deleted_start_is_skipped_or_refused,
        records_deleted_while_followed_are_skipped_or_refused,
        catching_up_stops_early_after_a_break,
        a_topic_is_read_to_its_end_when_the_last_record_was_deleted,
        a_topic_is_read_to_its_end_when_a_commit_marker_is_last,
        an_end_that_is_not_reached_is_an_error,
        a_busy_partition_does_not_hide_a_stalled_one,
        a_commit_marker_is_passed_while_another_partition_is_busy,
    }
    named {
        a_named_follower_continues_at_its_saved_position,
        a_trim_passes_no_saved_position,
        the_number_of_names_of_a_topic_is_limited,
    }
    waiting {
        a_thread_that_waits_in_a_member_is_woken_for_a_reader,
        a_thread_that_waits_in_a_reader_is_woken_for_a_member,
        a_thread_that_waits_in_a_member_can_be_unparked,
        a_thread_that_waits_in_a_reader_can_be_unparked,
    }
}
