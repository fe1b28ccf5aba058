//! What `deploy/` says, as types: a field that is misspelt or at the wrong place does not parse.
//!
//! The types hold what our files use, and no more. The published types of the Kubernetes API would
//! take more time to build than everything else in this package, and know nothing of KEDA or compose.

#![allow(missing_docs, reason = "the names are those of the Kubernetes and compose documentation")]

use std::collections::BTreeMap;

use serde::Deserialize;

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
pub enum Manifest {
    Namespace(Plain),
    Service(Resource<ServiceSpec>),
    Deployment(Resource<Workload>),
    StatefulSet(Resource<Workload>),
    Job(Resource<JobSpec>),
    PersistentVolumeClaim(Resource<ClaimSpec>),
    PodDisruptionBudget(Resource<Budget>),
    NetworkPolicy(Resource<Policy>),
    ScaledObject(Resource<Scaled>),
    Kustomization(Kustomization),
}

macro_rules! manifest {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => { $(
        #[derive(Clone, Debug, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name { $($(#[$meta])* pub $field: $type,)* }
    )* };
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource<S> {
    pub api_version: String,
    pub metadata: Metadata,
    pub spec: S,
}

manifest! {
    Plain { api_version: String, metadata: Metadata, }
    Metadata { name: Option<String>, labels: Option<Labels>, }
    Selector { match_labels: Option<Labels>, }

    ServiceSpec { selector: Labels, ports: Vec<ServicePort>, #[serde(rename = "clusterIP")] cluster_ip: Option<String>, publish_not_ready_addresses: Option<bool>, }
    ServicePort { name: String, port: u16, }

    Workload { replicas: Option<u32>, selector: Selector, template: Template, service_name: Option<String>, pod_management_policy: Option<String>, volume_claim_templates: Option<Vec<Claim>>, }
    JobSpec { backoff_limit: u32, template: Template, }
    Template { metadata: Metadata, spec: Pod, }
    Pod { termination_grace_period_seconds: Option<u64>, automount_service_account_token: bool, restart_policy: Option<String>, security_context: PodSecurity, topology_spread_constraints: Option<Vec<Spread>>, init_containers: Option<Vec<Container>>, containers: Vec<Container>, volumes: Option<Vec<Volume>>, }
    PodSecurity { run_as_non_root: bool, run_as_user: u32, fs_group: Option<u32>, seccomp_profile: Seccomp, }
    Seccomp { #[serde(rename = "type")] kind: String, }
    Spread { max_skew: u32, topology_key: String, when_unsatisfiable: String, label_selector: Selector, }
    Container { name: String, image: String, command: Option<Vec<String>>, args: Option<Vec<String>>, env: Option<Vec<Variable>>, env_from: Option<Vec<EnvFrom>>, ports: Option<Vec<ContainerPort>>, startup_probe: Option<Probe>, liveness_probe: Option<Probe>, readiness_probe: Option<Probe>, resources: Resources, security_context: ContainerSecurity, volume_mounts: Option<Vec<Mount>>, }
    Variable { name: String, value: Option<String>, value_from: Option<ValueFrom>, }
    ValueFrom { secret_key_ref: Option<SecretKey>, field_ref: Option<FieldRef>, }
    SecretKey { name: String, key: String, }
    FieldRef { field_path: String, }
    EnvFrom { secret_ref: Named, }
    Named { name: String, }
    ContainerPort { name: String, container_port: u16, }
    Probe { http_get: HttpGet, period_seconds: u32, failure_threshold: Option<u32>, }
    HttpGet { path: String, port: String, }
    Resources { requests: Option<Labels>, limits: Labels, }
    ContainerSecurity { allow_privilege_escalation: bool, read_only_root_filesystem: bool, capabilities: Capabilities, }
    Capabilities { drop: Vec<String>, }
    Mount { name: String, mount_path: String, read_only: Option<bool>, }
    Volume { name: String, empty_dir: Option<Empty>, config_map: Option<Named>, persistent_volume_claim: Option<ClaimRef>, }
    Empty {}
    ClaimRef { claim_name: String, }
    Claim { metadata: Metadata, spec: ClaimSpec, }
    ClaimSpec { access_modes: Vec<String>, resources: ClaimResources, }
    ClaimResources { requests: Labels, }

    Budget { max_unavailable: Option<u32>, min_available: Option<u32>, selector: Selector, }
    Policy { pod_selector: Selector, policy_types: Vec<String>, ingress: Option<Vec<Ingress>>, egress: Option<Vec<Egress>>, }
    Ingress { from: Vec<Peer>, ports: Vec<PolicyPort>, }
    Egress { to: Vec<Peer>, ports: Vec<PolicyPort>, }
    Peer { pod_selector: Option<Selector>, namespace_selector: Option<Selector>, }
    PolicyPort { protocol: String, port: u16, }

    Scaled { scale_target_ref: Named, min_replica_count: u32, max_replica_count: u32, polling_interval: u32, cooldown_period: u32, triggers: Vec<Trigger>, }
    Trigger { #[serde(rename = "type")] kind: String, metadata: TriggerMetadata, }
    TriggerMetadata { nats_server_monitoring_endpoint: String, account: String, stream: String, consumer: String, lag_threshold: String, activation_lag_threshold: String, }

    Kustomization { api_version: String, namespace: Option<String>, resources: Option<Vec<String>>, config_map_generator: Option<Vec<Generator>>, images: Option<Vec<Image>>, }
    Generator { name: String, files: Vec<String>, }
    Image { name: String, new_tag: String, }
}

/// A compose file. Its `x-` parts are templates.
#[derive(Debug, Deserialize)]
pub struct Compose {
    pub services: BTreeMap<String, ComposeService>,
    pub volumes: BTreeMap<String, Empty>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComposeService {
    pub image: String,
    #[serde(default)]
    pub command: Vec<String>,
    pub restart: Option<String>,
    pub stop_grace_period: Option<String>,
    #[serde(default)]
    pub ports: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub depends_on: BTreeMap<String, Condition>,
    pub healthcheck: Option<HealthCheck>,
    pub deploy: Option<Scale>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    pub condition: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    pub test: Option<Vec<String>>,
    pub interval: Option<String>,
    pub retries: Option<u32>,
    pub disable: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    pub replicas: u32,
}
