//! Answers of guests that are none.

use crm_core::hook::Outcome;
use crm_plugins::Limits;

use super::guest::component;
use super::run;

/// An error whose text lies there.
fn fails_with(address: i32, length: i32) -> String {
    format!(
        "(i32.store8 (i32.const 512) (i32.const 1))
         (i32.store (i32.const 516) (i32.const {address}))
         (i32.store (i32.const 520) (i32.const {length}))
         (i32.store8 (i32.const 64) (i32.const 255))
         (i32.const 512)"
    )
}

#[tokio::test]
async fn pl_an_answer_that_lies_out_of_range_or_is_no_text_crashes_the_run_alone() {
    for (what, body) in [
        ("an answer beyond the memory", "(i32.const -8)".to_owned()),
        ("an answer that is not aligned", "(i32.const 3)".to_owned()),
        ("a text beyond the memory", fails_with(65_530, 100)),
        ("a text of a negative length", fails_with(64, -1)),
        ("a text that is not UTF-8", fails_with(64, 1)),
    ] {
        let report = run(Limits::default(), component(&body)).await;
        assert_eq!(report.outcome, Outcome::Trapped, "{what}: {report:?}");
        assert!(report.output.is_none());
    }
}

#[tokio::test]
async fn an_answer_that_is_no_case_crashes_the_run() {
    let body = "(i32.store8 (i32.const 512) (i32.const 9)) (i32.const 512)";
    let report = run(Limits::default(), component(body)).await;
    assert_eq!(report.outcome, Outcome::Trapped, "{report:?}");
}
