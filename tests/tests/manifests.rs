//! The files of `deploy/`: parsed into types, and compared with the program and with each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use foreplan_testkit::skipped;
use foreplan_tests::{
    Project,
    manifests::{Compose, ComposeService, Container, Labels, Manifest, Pod, Template},
};
use serde::Deserialize as _;

/// How long `serve` waits for the steps in hand when it is told to stop.
const DRAIN_SECONDS: u64 = 25;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Returns what a folder of manifests holds, by file.
fn manifests(folder: &str) -> Vec<(String, Manifest)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(deploy(folder)).expect("a folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") {
            continue;
        }
        for document in serde_yaml_ng::Deserializer::from_str(&text(&format!("{folder}/{name}"))) {
            let manifest = Manifest::deserialize(document).unwrap_or_else(|e| panic!("{folder}/{name}: {e}"));
            found.push((name.clone(), manifest));
        }
    }
    found
}

fn all() -> Vec<Manifest> {
    let folders = ["kubernetes/base", "kubernetes/release"];
    folders.iter().flat_map(|folder| manifests(folder)).map(|(_, manifest)| manifest).collect()
}

/// Returns every pod with the name of what makes it.
fn pods(manifests: &[Manifest]) -> BTreeMap<String, Template> {
    let pod = |manifest: &Manifest| match manifest {
        Manifest::Deployment(r) | Manifest::StatefulSet(r) => {
            assert_eq!(r.api_version, "apps/v1");
            assert!(selects(r.spec.selector.match_labels.as_ref(), &r.spec.template), "{:?}", r.metadata);
            Some((r.metadata.name.clone()?, r.spec.template.clone()))
        }
        Manifest::Job(r) => Some((r.metadata.name.clone()?, r.spec.template.clone())),
        _ => None,
    };
    manifests.iter().filter_map(pod).collect()
}

fn selects(labels: Option<&Labels>, template: &Template) -> bool {
    let carried = template.metadata.labels.clone().unwrap_or_default();
    labels.is_none_or(|labels| labels.iter().all(|(name, value)| carried.get(name) == Some(value)))
}

/// Has the program parse a command line, and returns the variables that it knows there.
fn understood(args: &[String]) -> BTreeSet<String> {
    let args: Vec<&str> = args.iter().map(String::as_str).chain(["--help"]).collect();
    let parsed = Project::empty().foreplan(&args);
    assert_eq!(parsed.code, 0, "{args:?}: {parsed:?}");
    let known = parsed.stdout.split("[env: ").skip(1);
    known.filter_map(|rest| rest.split(['=', ']']).next()).map(str::to_owned).collect()
}

/// Checks that a process gets a command line, variables and a user that there are. Passwords may only
/// be parts of the address.
fn check_process(name: &str, args: &[String], env: &BTreeMap<String, String>) {
    let known = understood(args);
    for variable in env.keys() {
        assert!(known.contains(variable) || variable == "OTEL_EXPORTER_OTLP_ENDPOINT", "{name}: {variable}");
    }
    let user = env["NATS_URL"].split(['/', ':', '@']).nth(3).expect("the address names a user").to_owned();
    assert_eq!(env["NATS_INBOX"], format!("_INBOX.{user}"), "{name}");
    assert!(text("nats/fp.conf").contains(&format!("user: \"{user}\"")), "{name}: there is no user {user}");
}

fn check_container(name: &str, pod: &Pod, container: &Container) {
    let args = container.args.clone().expect("a role has arguments");
    let mut env = BTreeMap::new();
    for variable in container.env.iter().flatten() {
        match (&variable.value, variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref())) {
            (Some(value), None) => drop(env.insert(variable.name.clone(), value.clone())),
            (None, Some(secret)) => {
                assert_eq!(
                    (variable.name.as_str(), secret.name.as_str()),
                    ("PASSWORD", "foreplan-passwords")
                );
                let password = format!("password: ${}", secret.key);
                assert!(text("nats/fp.conf").contains(&password), "{name}: {password}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    check_process(name, &args, &env);
    assert!(env["NATS_URL"].contains(":$(PASSWORD)@nats:4222"), "{name}");
    let mounted: BTreeSet<_> = container.volume_mounts.iter().flatten().map(|mount| &mount.name).collect();
    let there: BTreeSet<_> = pod.volumes.iter().flatten().map(|volume| &volume.name).collect();
    assert_eq!(mounted, there, "{name}");
}

#[test]
fn every_role_is_started_as_the_program_understands_it_and_watched_by_its_own_pages() {
    let manifests = all();
    let pods = pods(&manifests);
    let roles = ["planner", "replanner", "tracker", "executor-ci", "executor-ops"];
    for name in roles.iter().chain(&["setup"]) {
        let template = pods.get(*name).unwrap_or_else(|| panic!("no {name}"));
        let [container] = template.spec.containers.as_slice() else { panic!("{name}: one container") };
        check_container(name, &template.spec, container);
        let labels = template.metadata.labels.clone().unwrap_or_default();
        assert_eq!(labels.get("foreplan/nats-client").map(String::as_str), Some("true"), "{name}");
    }
    for name in roles {
        let pod = &pods[name].spec;
        assert!(pod.termination_grace_period_seconds.is_some_and(|s| s > DRAIN_SECONDS), "{name}");
        let container = &pod.containers[0];
        let port = container.ports.iter().flatten().find(|port| port.name == "http").expect("a port");
        let listen = format!("0.0.0.0:{}", port.container_port);
        let args = container.args.clone().unwrap_or_default();
        assert!(args.windows(2).any(|pair| pair == ["--listen", listen.as_str()]), "{name}: {args:?}");
        for (probe, path) in [(&container.liveness_probe, "/livez"), (&container.readiness_probe, "/readyz")]
        {
            let get = &probe.as_ref().unwrap_or_else(|| panic!("{name}: no {path}")).http_get;
            assert_eq!((get.path.as_str(), get.port.as_str()), (path, "http"), "{name}");
        }
    }
}

#[test]
fn no_pod_has_rights_that_it_does_not_need() {
    for (name, template) in pods(&all()) {
        let pod = &template.spec;
        assert!(pod.security_context.run_as_non_root && pod.security_context.run_as_user > 0, "{name}");
        assert!(!pod.automount_service_account_token, "{name}");
        for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
            let security = &container.security_context;
            assert!(!security.allow_privilege_escalation && security.read_only_root_filesystem, "{name}");
            assert_eq!(security.capabilities.drop, ["ALL"], "{name}");
            assert!(container.resources.limits.contains_key("memory"), "{name}");
        }
    }
}

#[test]
fn budgets_and_policies_select_pods_that_there_are() {
    let manifests = all();
    let pods = pods(&manifests);
    let is_someone = |labels: &Option<Labels>| pods.values().any(|pod| selects(labels.as_ref(), pod));
    let (mut budgets, mut policies) = (0, 0);
    for manifest in &manifests {
        match manifest {
            Manifest::PodDisruptionBudget(r) => {
                budgets += 1;
                assert!(is_someone(&r.spec.selector.match_labels), "{r:?}");
                assert!(r.spec.max_unavailable.is_some() != r.spec.min_available.is_some(), "{r:?}");
            }
            Manifest::NetworkPolicy(r) => {
                policies += 1;
                assert!(is_someone(&r.spec.pod_selector.match_labels), "{r:?}");
                let from = r.spec.ingress.iter().flatten().flat_map(|rule| &rule.from);
                let to = r.spec.egress.iter().flatten().flat_map(|rule| &rule.to);
                for peer in from.chain(to).filter_map(|peer| peer.pod_selector.as_ref()) {
                    assert!(is_someone(&peer.match_labels), "{r:?}");
                }
            }
            Manifest::Service(r) => assert!(is_someone(&Some(r.spec.selector.clone())), "{r:?}"),
            _ => {}
        }
    }
    assert!(budgets >= 2 && policies >= 3);
    let denies_all = |manifest: &Manifest| {
        matches!(manifest, Manifest::NetworkPolicy(r)
            if r.spec.pod_selector.match_labels.is_none() && r.spec.policy_types == ["Ingress", "Egress"]
                && r.spec.ingress.is_none())
    };
    assert!(manifests.iter().any(denies_all), "what no policy allows is refused");
}

#[test]
fn each_capability_is_scaled_by_what_waits_for_it() {
    let manifests = all();
    let account = text("nats/fp.conf");
    let scaled: BTreeMap<_, _> = manifests
        .iter()
        .filter_map(|manifest| match manifest {
            Manifest::ScaledObject(r) => Some((r.spec.scale_target_ref.name.clone(), r.spec.clone())),
            _ => None,
        })
        .collect();
    let mut executors = 0;
    for manifest in &manifests {
        let Manifest::Deployment(r) = manifest else { continue };
        let name = r.metadata.name.clone().unwrap_or_default();
        if !name.starts_with("executor-") {
            continue;
        }
        executors += 1;
        assert_eq!(r.spec.replicas, None, "{name}: KEDA says how many there are");
        let scaled = scaled.get(&name).unwrap_or_else(|| panic!("{name} is not scaled"));
        assert_eq!(scaled.min_replica_count, 0, "{name}");
        let [trigger] = scaled.triggers.as_slice() else { panic!("{name}: one trigger") };
        let of = &trigger.metadata;
        assert_eq!((trigger.kind.as_str(), of.account.as_str()), ("nats-jetstream", "fp"));
        let takes = format!("\"$JS.API.CONSUMER.MSG.NEXT.{}.{}\"", of.stream, of.consumer);
        assert!(account.contains(&takes), "{name}: nobody takes from {takes}");
        assert!(of.lag_threshold.parse::<u32>().is_ok_and(|lag| lag > 0), "{name}");
        assert_eq!(of.activation_lag_threshold, "0", "{name}: the first step that waits wakes a worker");
        assert!(of.nats_server_monitoring_endpoint.starts_with("nats-cluster.foreplan."), "{name}");
    }
    assert_eq!((executors, scaled.len()), (2, 2));
}

#[test]
fn kustomize_takes_every_file() {
    for folder in ["kubernetes/base", "kubernetes/release"] {
        let manifests = manifests(folder);
        let files: BTreeSet<&str> = manifests.iter().map(|(file, _)| file.as_str()).collect();
        let kustomization = manifests.iter().find_map(|(_, manifest)| match manifest {
            Manifest::Kustomization(kustomization) => Some(kustomization),
            _ => None,
        });
        let resources = kustomization.and_then(|k| k.resources.clone()).expect("it lists resources");
        for resource in &resources {
            assert!(deploy(folder).join(resource).exists(), "{folder}: {resource}");
        }
        let listed: BTreeSet<&str> =
            resources.iter().map(String::as_str).chain(["kustomization.yaml"]).collect();
        assert!(files.is_subset(&listed), "{folder}: {files:?}");
    }
    let built = Command::new("kubectl").arg("kustomize").arg(deploy("kubernetes/release")).output();
    match built {
        Ok(built) => assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr)),
        Err(_) => skipped("there is no kubectl here to build the manifests with"),
    }
}

fn compose() -> Compose {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text("compose.yaml")).expect("YAML");
    value.apply_merge().expect("templates merge");
    serde_yaml_ng::from_value(value).unwrap_or_else(|e| panic!("compose.yaml: {e}"))
}

#[test]
fn compose_starts_what_a_deployment_consists_of() {
    let compose = compose();
    let replicas = |service: &ComposeService| service.deploy.as_ref().map_or(1, |deploy| deploy.replicas);
    for (name, count) in [("planner", 1), ("replanner", 1), ("tracker", 2), ("ci", 2), ("ops", 2)] {
        let service = &compose.services[name];
        assert_eq!(replicas(service), count, "{name}");
        check_process(name, &service.command, &service.environment);
        assert_eq!(service.depends_on["setup"].condition, "service_completed_successfully", "{name}");
        let grace = service.stop_grace_period.as_deref().and_then(|grace| grace.strip_suffix('s'));
        assert!(grace.and_then(|s| s.parse().ok()).is_some_and(|s: u64| s > DRAIN_SECONDS), "{name}");
    }
    check_process("setup", &compose.services["setup"].command, &compose.services["setup"].environment);
    let account = text("nats/fp.conf");
    for name in ["nats-0", "nats-1", "nats-2"] {
        let env = &compose.services[name].environment;
        assert_eq!(env["SERVER_NAME"], name);
        for password in account.split("password: $").skip(1).filter_map(|rest| rest.split(',').next()) {
            assert!(env.contains_key(password), "{name} does not know {password}");
        }
        assert!(compose.volumes.contains_key(name), "{name} keeps its data");
    }
    assert!(compose.services["jaeger"].image.starts_with("jaegertracing/"));
}

#[test]
fn the_image_is_small_has_no_root_and_says_whether_it_lives() {
    let dockerfile = text("Dockerfile");
    let stages: Vec<&str> = dockerfile.split("\nFROM ").skip(1).collect();
    let [build, image] = stages.as_slice() else { panic!("two stages") };
    assert!(build.contains(" AS build") && build.contains("--locked"));
    assert!(image.starts_with("debian:") && image.contains("COPY --from=build"));
    assert!(image.contains("USER 10001") && image.contains("STOPSIGNAL SIGTERM"));
    assert!(image.contains("HEALTHCHECK") && image.contains("http://127.0.0.1:8080/livez"));
    let command = image.lines().find_map(|line| line.strip_prefix("CMD ")).expect("a command");
    let args: Vec<String> = serde_json::from_str(command).expect("a list");
    assert!(args.contains(&"0.0.0.0:8080".to_owned()));
    drop(understood(&args));
}
