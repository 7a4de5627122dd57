//! The table: every call of every service, and the roles that may make it. A call without a row is refused, and a test
//! walks the descriptors, so that a new call without a row does not pass.

use super::Role;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Anybody who can connect.
    Anybody,
    /// These roles.
    Roles(&'static [Role]),
}

const WORK: Rule = Rule::Roles(&[Role::Worker]);
const READ: Rule = Rule::Roles(&[Role::Reader, Role::Submitter, Role::Admin]);
const STEER: Rule = Rule::Roles(&[Role::Submitter, Role::Admin]);
/// What of storage each may touch is the service's to say, by the key.
const RELAY: Rule = Rule::Roles(&[Role::Worker, Role::Reader, Role::Submitter, Role::Admin]);
const RELAY_IN: Rule = Rule::Roles(&[Role::Worker, Role::Submitter, Role::Admin]);
const ADMIN: Rule = Rule::Roles(&[Role::Admin]);

const TABLE: &[(&str, Rule)] = &[
    ("/encaje.v1.Jobs/Submit", STEER),
    ("/encaje.v1.Jobs/Get", READ),
    ("/encaje.v1.Jobs/List", READ),
    ("/encaje.v1.Jobs/Cancel", STEER),
    ("/encaje.v1.Jobs/Pause", STEER),
    ("/encaje.v1.Jobs/Resume", STEER),
    ("/encaje.v1.Jobs/Retry", STEER),
    ("/encaje.v1.Jobs/Repair", STEER),
    ("/encaje.v1.Jobs/Results", READ),
    ("/encaje.v1.Work/OpenSession", WORK),
    ("/encaje.v1.Work/Lease", WORK),
    ("/encaje.v1.Work/GetSourceTask", WORK),
    ("/encaje.v1.Work/Heartbeat", WORK),
    ("/encaje.v1.Work/Commit", WORK),
    ("/encaje.v1.Work/Fail", WORK),
    ("/encaje.v1.Work/Release", WORK),
    ("/encaje.v1.Work/CloseSession", WORK),
    ("/encaje.v1.Storage/Head", RELAY),
    ("/encaje.v1.Storage/Read", RELAY),
    ("/encaje.v1.Storage/Write", RELAY_IN),
    ("/encaje.v1.Storage/ListObjects", READ),
    // Load balancers and Kubernetes ask without a certificate, and learn whether it serves.
    ("/grpc.health.v1.Health/Check", Rule::Anybody),
    ("/grpc.health.v1.Health/Watch", Rule::Anybody),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ADMIN),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ADMIN),
];

/// Returns the name of a call that has a row.
pub(crate) fn known_call(path: &str) -> Option<&'static str> {
    TABLE.iter().map(|(call, _)| *call).find(|call| *call == path)
}

/// Returns which roles may make a call, by its path; `None` where none may.
pub(crate) fn rule(path: &str) -> Option<Rule> {
    TABLE.iter().find(|(call, _)| *call == path).map(|(_, rule)| *rule)
}

/// Returns whether a role may make a call, by its path.
#[cfg(test)]
pub(crate) fn call_is_for(path: &str, role: Role) -> bool {
    rule(path).is_some_and(|rule| rule.allows(role))
}

impl Rule {
    /// Whether somebody of this role may.
    pub(crate) fn allows(self, role: Role) -> bool {
        match self {
            Rule::Anybody => true,
            Rule::Roles(roles) => roles.contains(&role),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// Every call that the descriptors of the server know of.
    fn calls() -> BTreeSet<String> {
        let mut calls = BTreeSet::new();
        for set in [proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    calls.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
                }
            }
        }
        calls
    }

    #[test]
    fn every_call_has_a_row_and_every_row_is_a_call() {
        let listed: BTreeSet<String> = TABLE.iter().map(|(call, _)| (*call).to_owned()).collect();
        assert_eq!(listed.len(), TABLE.len(), "a call has one row");
        let missing: Vec<String> = calls().difference(&listed).cloned().collect();
        assert!(missing.is_empty(), "say in coordinator/src/access/table.rs who may call {missing:?}");
        let known: Vec<String> = listed
            .into_iter()
            .filter(|call| !call.starts_with("/grpc.reflection.") && !calls().contains(call))
            .collect();
        assert!(known.is_empty(), "rows without a call: {known:?}");
    }

    #[test]
    fn workers_work_and_people_do_not() {
        for call in calls() {
            let Some(rule) = rule(&call) else { panic!("{call}") };
            let is_work = call.starts_with("/encaje.v1.Work/");
            let is_public = rule == Rule::Anybody;
            assert_eq!(rule.allows(Role::Admin), !is_work, "{call}");
            assert_eq!(is_public, call.starts_with("/grpc.health.v1.Health/"), "{call}");
            if call.starts_with("/encaje.v1.Jobs/") {
                assert!(!rule.allows(Role::Worker), "{call}");
                let reads = ["Get", "List", "Results"].iter().any(|name| call.ends_with(&format!("/{name}")));
                assert_eq!(rule.allows(Role::Reader), reads, "{call}");
                assert!(rule.allows(Role::Submitter), "{call}");
            }
            if is_work {
                assert!(rule.allows(Role::Worker) && !rule.allows(Role::Submitter), "{call}");
            }
        }
        assert_eq!(rule("/encaje.v1.Jobs/Nothing"), None);
    }
}
