//! A facility with eighty PCs, everything measured and in order.

use gateway_policy::{
    BOX_CHECKS, Certificate, DEVICE_CHECKS, DeviceId, DeviceStanding, Evidence, FACILITY_CHECKS,
    Ledger, Observation, Observed, Snapshot, Source, Standing, Subject, Timestamp,
};

/// PCs 0 to 79; each id is its number sixteen times.
pub(crate) fn snapshot(now: Timestamp) -> Snapshot {
    let ids: Vec<DeviceId> = (0..80).map(|number| DeviceId([number; 16])).collect();
    let standings: Vec<_> = ids
        .iter()
        .map(|id| DeviceStanding {
            id: *id,
            revoked: None,
            manager: false,
        })
        .collect();
    let mut ledger = Ledger::new(now);
    ledger.set_devices(&standings, now);
    let mut pass = |subject, check| {
        let observed = Observed {
            check,
            observation: Observation::Pass,
            at: now,
            source: Source::Measured,
            digest: [0; 32],
        };
        ledger.observe(subject, observed, now);
    };
    for check in BOX_CHECKS {
        pass(Subject::Box, check);
    }
    for check in FACILITY_CHECKS {
        pass(Subject::Facility, check);
    }
    for id in &ids {
        for check in DEVICE_CHECKS {
            pass(Subject::Device(*id), check);
        }
    }
    let certificate = Certificate::Held {
        not_before: now.plus(-9),
        not_after: now.plus(9_999_999),
    };
    ledger.snapshot(
        now,
        Evidence::Known {
            value: certificate,
            at: now,
        },
        Evidence::Known {
            value: Standing::Active,
            at: now,
        },
    )
}
