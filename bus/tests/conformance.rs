//! What every bus must do, written once and run on all: embedded, embedded on disk, and on Kafka.
//!
//! The tests on Kafka need a broker: `./test` or `tools/kafka start` gives them one.

#[path = "conformance/fixture.rs"]
mod fixture;

#[path = "conformance/commits.rs"]
mod commits;
#[path = "conformance/groups.rs"]
mod groups;
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

/// Makes a test of each function for each implementation.
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
        a_topic_is_made_once_and_found_again,
        a_topic_with_other_partitions_is_refused,
        a_topic_with_a_clean_up_that_does_not_do_is_refused,
        nothing_makes_a_topic_but_ensure_topic,
        a_partition_that_does_not_exist_is_named,
        bounds_say_where_a_partition_begins_and_ends,
    }
    records {
        keys_are_routed_as_the_java_client_routes_them,
        a_record_goes_where_it_is_told_to_and_without_a_key_to_the_first,
        key_headers_and_value_arrive_byte_for_byte,
        an_envelope_survives_the_bus,
        records_of_a_partition_keep_their_order,
        a_record_carries_the_time_of_its_append,
        a_record_that_is_too_large_is_refused_with_all_that_came_with_it,
    }
    commits {
        outputs_are_seen_only_after_their_commit_and_all_of_them,
        a_commit_with_one_bad_record_writes_nothing,
        a_position_and_its_note_are_what_the_next_owner_finds,
        a_commit_without_positions_writes_its_records,
        an_empty_commit_is_nothing,
        commits_leave_gaps_that_a_reader_passes,
        positions_that_nobody_waits_for_are_committed_in_the_end,
        a_note_that_is_too_long_is_refused,
    }
    groups {
        a_group_has_the_members_that_joined_and_did_not_leave,
        a_lone_member_gets_every_partition,
        a_member_knows_when_the_group_has_decided_for_the_first_time,
        no_record_of_a_partition_arrives_before_it_is_started,
        a_partition_starts_where_it_is_told_to,
        a_partition_whose_beginning_was_deleted_starts_at_what_is_left,
        a_partition_can_be_moved_back_to_its_beginning_again_and_again,
        a_new_member_gets_its_share_and_nothing_else_moves,
        up_to_eight_members_share_and_who_comes_or_goes_moves_only_what_it_must,
        an_owner_may_commit_between_revoking_and_release,
        a_commit_that_names_a_partition_too_many_is_fenced_as_a_whole,
        no_record_arrives_after_revoking,
        a_poll_for_no_records_brings_the_decisions_of_the_group,
        a_group_is_behind_by_what_it_has_not_committed,
        partitions_of_one_who_leaves_go_to_the_others,
        members_share_the_records_and_lose_none,
        what_is_not_owned_cannot_be_started_or_taken_over,
    }
    owners {
        a_dropped_member_is_taken_over_where_it_last_committed,
        a_silent_owner_loses_its_partitions_and_is_fenced,
        a_commit_that_moves_nothing_is_fenced_all_the_same,
        one_who_lost_its_partitions_hears_of_it_and_comes_back,
        a_new_instance_of_a_member_goes_on_where_the_old_one_ended,
    }
    readers {
        a_reader_follows_several_partitions_in_order,
        a_reader_starts_in_the_middle_and_can_be_moved,
        a_reader_waits_for_what_is_not_there_yet,
        a_compacted_topic_keeps_the_last_record_of_each_key,
        a_topic_is_read_to_its_end_where_the_last_record_was_deleted,
        a_topic_is_read_to_its_end_where_a_commit_ends_it,
        an_end_that_is_not_reached_is_an_error_and_not_the_end,
        what_was_deleted_is_gone_and_said_to_be,
        what_is_still_needed_is_read_after_a_trim,
        what_is_past_the_end_is_refused,
    }
}
