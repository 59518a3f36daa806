use super::*;

/// Every variant once. A variant that is new does not compile until it stands here.
fn one_of_each() -> Vec<Error> {
    fn is_here(error: &Error) {
        match error {
            Error::Invalid(_) | Error::Undecodable(_) | Error::NotFound { .. } => {}
            Error::Unauthenticated { .. } | Error::Denied { .. } => {}
            Error::PolicyChanged | Error::Quota { .. } => {}
            Error::AlreadyExists { .. } | Error::Removed { .. } => {}
            Error::RevisionCompacted { .. } => {}
            Error::RevisionUnknown { .. } | Error::EpochChanged { .. } | Error::TooMany { .. } => {}
            Error::StateChanged { .. } | Error::KeyChanged { .. } => {}
            Error::ColumnGone { .. } | Error::ColumnChanged { .. } => {}
            Error::SlowConsumer | Error::Refused { .. } | Error::LeftOut | Error::ImportTakenOver => {}
            Error::RowChanged | Error::NotAttached { .. } | Error::CannotAttach { .. } => {}
            Error::ImportUnknown { .. } | Error::ImportDiffers { .. } | Error::Interrupted { .. } => {}
            Error::TooLarge(_) | Error::Unimplemented { .. } | Error::Unavailable { .. } => {}
            Error::DeadlineExceeded | Error::Internal(_) => {}
        }
    }
    let (one, two) = (Revision::new(1), Revision::new(2));
    let refused = Error::Refused { sqlstate: "23514".into(), constraint: None, message: "no dragons".into() };
    let (next_index, created, failed, uncertain) = (3, 2, 1, 0);
    let all = vec![
        Error::invalid("field", "rule"),
        Error::Undecodable("why".into()),
        Error::Unauthenticated { credential: Credential::Missing, why: "why".into() },
        Error::Unauthenticated { credential: Credential::Invalid, why: "why".into() },
        Error::Unauthenticated { credential: Credential::Expired, why: "why".into() },
        Error::Unauthenticated { credential: Credential::Revoked, why: "why".into() },
        Error::Denied { why: "why".into(), revoked: false },
        Error::Denied { why: "why".into(), revoked: true },
        Error::PolicyChanged,
        Error::Quota { what: "calls" },
        Error::NotFound { kind: "Kind".into(), id: "id".into() },
        Error::AlreadyExists { kind: "Kind".into() },
        Error::Removed { kind: "Kind".into(), why: Removal::Dropped },
        Error::Removed { kind: "Kind".into(), why: Removal::Detached },
        Error::RevisionCompacted { asked: one, oldest: two },
        Error::RevisionUnknown { asked: two, head: one },
        Error::EpochChanged { current: Epoch::new("e") },
        Error::StateChanged { kind: "Kind".into(), revision: one, why: "why".into() },
        Error::KeyChanged { kind: "Kind".into(), revision: one },
        Error::ColumnGone { kind: "Kind".into(), column: "a".into() },
        Error::ColumnChanged { kind: "Kind".into(), column: "a".into() },
        Error::TooMany { what: "streams" },
        Error::SlowConsumer,
        refused,
        Error::LeftOut,
        Error::RowChanged,
        Error::NotAttached { table: "public.orders".into() },
        Error::CannotAttach { why: "why".into() },
        Error::ImportTakenOver,
        Error::ImportUnknown { acknowledged: 2, known: 1 },
        Error::ImportDiffers { known: 2, sent: 1 },
        Error::Interrupted { cause: Box::new(Error::SlowConsumer), next_index, created, failed, uncertain },
        Error::TooLarge("why".into()),
        Error::Unimplemented { what: "field" },
        Error::Unavailable { why: "why", retry_after: Duration::from_secs(7) },
        Error::DeadlineExceeded,
        Error::Internal(anyhow::anyhow!("cause")),
    ];
    all.iter().for_each(is_here);
    all
}

#[test]
fn every_error_has_a_row_whose_codes_agree() {
    for error in one_of_each() {
        let Row { code, http, reason, .. } = error.row();
        let statuses: &[u16] = match code {
            Code::InvalidArgument => &[400, 422],
            Code::NotFound => &[404],
            Code::Unauthenticated => &[401],
            Code::PermissionDenied => &[403],
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => &[409],
            Code::OutOfRange => &[410],
            Code::ResourceExhausted => &[413, 429],
            Code::Unimplemented => &[501],
            Code::Unavailable => &[503],
            Code::DeadlineExceeded => &[504],
            Code::Internal => &[500],
        };
        assert!(statuses.contains(&http), "{error:?}");
        assert!(reason.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{error:?}");
    }
}

#[test]
fn who_may_come_again_is_told_when() {
    for error in one_of_each() {
        let row = error.row();
        assert_eq!(row.retry_after.is_some(), matches!(row.http, 429 | 503), "{error:?}");
    }
    let cause = Box::new(Error::Unavailable { why: "why", retry_after: Duration::from_secs(7) });
    let interrupted = Error::Interrupted { cause, next_index: 3, created: 2, failed: 1, uncertain: 0 };
    assert_eq!(interrupted.row().retry_after, Some(Duration::from_secs(7)));
    assert!(interrupted.metadata().contains(&("next_index", "3".to_owned())));
}
