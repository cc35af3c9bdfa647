//! docker's commands and flags that are not here: refused by name, with what to do instead.

use crate::cli::Refused;

const fn refused(
    names: &'static [&'static str],
    problem: &'static str,
    advice: &'static str,
) -> Refused {
    Refused { names, problem, advice }
}

const NO_BACKGROUND: &str = "there are no containers in the background yet";
const NO_NETWORK: &str = "containers have no network of their own yet, only loopback or the host's";
const HOSTS_NETWORK: &str = "with --network host, the program's ports are the host's";
const NO_DOCKERFILES: &str = "Dockerfiles are not understood yet";
const BUILD_OTHERWISE: &str = "run the steps in a container and `crun-cargo commit` it, or build with another \
                               tool and `crun-cargo load` the result";
const NO_FLEET: &str = "crun-cargo runs single containers; it does not manage several together";
const AN_ENGINE: &str =
    "podman, containerd and dockerd do, and can run their containers with `crun-cargo oci`";

/// Commands.
pub(super) const COMMANDS: &[Refused] = &[
    refused(
        &["attach", "container attach"],
        "there are no containers in the background yet, and those in the foreground are attached to their \
         terminal",
        "`crun-cargo exec -it CONTAINER sh` runs a shell in a running container",
    ),
    refused(&["build", "image build", "buildx", "builder"], NO_DOCKERFILES, BUILD_OTHERWISE),
    refused(
        &["logs", "container logs"],
        "output is not kept yet; a container in the foreground prints it to its terminal",
        "redirect the output of `crun-cargo run`, for example with `| tee FILE`",
    ),
    refused(&["port", "container port"], NO_NETWORK, HOSTS_NETWORK),
    refused(
        &["restart", "container restart"],
        NO_BACKGROUND,
        "`crun-cargo stop CONTAINER`, then `crun-cargo start -a CONTAINER`",
    ),
    refused(
        &["container create"],
        "a container is made and started in one step so far",
        "`crun-cargo run --name NAME IMAGE`; `crun-cargo oci create` is the OCI runtimes' command",
    ),
    refused(
        &["stats", "container stats"],
        "what containers use is not shown continuously yet",
        "`crun-cargo top CONTAINER` lists its processes; its limits and use are in /sys/fs/cgroup",
    ),
    refused(
        &["container update"],
        "limits cannot be changed by a container's name yet",
        "`crun-cargo update ID` takes the OCI runtimes' flags and the full id (`ps --no-trunc`)",
    ),
    refused(
        &["system events"],
        "nothing watches all containers",
        "`crun-cargo wait CONTAINER` tells when one ends, `crun-cargo events ID` what it uses",
    ),
    refused(
        &["system prune"],
        "containers and images are removed separately",
        "`crun-cargo container prune`, then `crun-cargo image prune`",
    ),
    refused(
        &["network"],
        NO_NETWORK,
        "`run --network host` shares the host's, `none` has only loopback",
    ),
    refused(
        &["volume"],
        "volumes have no commands yet; `run -v NAME:DIR` makes them",
        "`crun-cargo info` names the root directory; its volumes/ has a directory for each",
    ),
    refused(
        &["compose", "swarm", "service", "node", "stack", "secret", "config"],
        NO_FLEET,
        AN_ENGINE,
    ),
    refused(
        &["context", "plugin"],
        "there is no daemon to choose or extend",
        "--root and --runroot choose where images and containers are",
    ),
    refused(
        &["trust"],
        "signatures are not made or checked yet",
        "name images by digest (name@sha256:…) to get exactly those",
    ),
];

const DETACH: Refused = refused(
    &["-d", "--detach"],
    "processes in the background do not exist yet",
    "leave it out, or put `&` behind the command",
);

const DETACH_KEYS: Refused =
    refused(&["--detach-keys"], NO_BACKGROUND, "leave it out: every key goes to the program");

/// Flags of `exec`.
pub(super) const EXEC_FLAGS: &[Refused] = &[DETACH, DETACH_KEYS];

/// Flags of `start`.
pub(super) const START_FLAGS: &[Refused] = &[DETACH_KEYS];

/// Flags of `run`.
pub(super) const RUN_FLAGS: &[Refused] = &[
    refused(
        &["-d", "--detach"],
        NO_BACKGROUND,
        "leave it out: the container runs until its program ends",
    ),
    DETACH_KEYS,
    refused(&["-p", "--publish", "-P", "--publish-all"], NO_NETWORK, HOSTS_NETWORK),
    refused(
        &[
            "--expose",
            "--ip",
            "--ip6",
            "--link",
            "--link-local-ip",
            "--mac-address",
            "--network-alias",
        ],
        NO_NETWORK,
        "leave it out; --network host shares the host's network",
    ),
    refused(
        &["--restart"],
        "nothing restarts containers, since none run in the background yet",
        "leave it out, or run it from a service of the system's",
    ),
    refused(
        &[
            "--health-cmd",
            "--health-interval",
            "--health-retries",
            "--health-start-interval",
            "--health-start-period",
            "--health-timeout",
            "--no-healthcheck",
        ],
        "health is never checked",
        "leave it out",
    ),
    refused(
        &["--log-driver", "--log-opt"],
        "output is not kept yet; it goes where crun-cargo's own goes",
        "leave it out, and redirect the output",
    ),
    refused(
        &["--volumes-from", "-volumes-from"],
        "volumes are not taken over from other containers yet",
        "give the volume a name, and name it in both: -v NAME:DIR",
    ),
    refused(
        &["--volume-driver"],
        "volumes are directories below the root directory",
        "leave it out; mount what a driver would, and show that with -v",
    ),
    refused(
        &["--gpus"],
        "there is no driver's helper for GPUs",
        "--device gives single devices, such as /dev/dri/renderD128",
    ),
    refused(&["--runtime", "--isolation"], "crun-cargo is the runtime itself", "leave it out"),
    refused(
        &["--userns"],
        "user namespaces cannot be asked for here yet",
        "`crun-cargo oci` and container.json take id mappings",
    ),
    refused(
        &["--storage-opt"],
        "a container's changes cannot be limited in size yet",
        "leave it out, or give the program a --tmpfs DIR:size=SIZE to write to",
    ),
    refused(&["--sig-proxy"], "signals are always passed on", "leave it out"),
    refused(
        &[
            "--device-read-bps",
            "--device-read-iops",
            "--device-write-bps",
            "--device-write-iops",
            "--blkio-weight-device",
        ],
        "single disks cannot be limited here yet",
        "--blkio-weight weighs all of them; `crun-cargo oci` takes limits for each",
    ),
    refused(
        &["--kernel-memory"],
        "the kernel's memory has no limit of its own any more",
        "--memory counts it, too",
    ),
    refused(
        &["--cpu-rt-period", "--cpu-rt-runtime"],
        "real-time scheduling cannot be limited here yet",
        "`crun-cargo oci` takes these limits",
    ),
    refused(&["--disable-content-trust"], "signatures are not checked yet", "leave it out"),
];
