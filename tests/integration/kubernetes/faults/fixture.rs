//! The task that follows an API server, a server that fails on demand, and a journal of what came of it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use selvedge::cluster::{Inputs, OnCordon, Reach, Settings, Snapshot, Tainting, run};
use selvedge::config::{Access, Borrowed, Calico, CalicoApi, Kubernetes, NodeCidrs, Pods, Services};
use selvedge::readiness::Told;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use lab::kubernetes::fake::{FakeServer, PATIENCE};

pub(super) const CORE: &str = "/api/v1";
pub(super) const CALICO: &str = "/apis/crd.projectcalico.org/v1";
pub(super) const AFFINITIES: &str = "blockaffinities";
pub(super) const SLICES: &str = "endpointslices";
const KINDS: [(&str, &str); 6] = [
    (CORE, "nodes"),
    (CALICO, AFFINITIES),
    (CALICO, "ippools"),
    (CALICO, "ipamblocks"),
    (CORE, "services"),
    ("/apis/discovery.k8s.io/v1", SLICES),
];
/// `spec.podCIDRs` of the node.
pub(super) const OF_NODE: &str = "10.42.1.0/26";
/// The block that it has from the beginning.
pub(super) const FIRST: &str = "10.1.9.0/26";
/// One that comes later.
pub(super) const SECOND: &str = "10.1.9.64/26";

/// A node in a cluster with Calico.
pub(super) struct Bench {
    pub(super) server: FakeServer,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    journal: Arc<Mutex<Vec<Arc<Snapshot>>>>,
    folder: PathBuf,
    /// What the server is to be told of the node.
    pub(super) told: watch::Sender<Told>,
    /// Ends what follows the server.
    settings: watch::Sender<Option<Settings>>,
    tasks: JoinSet<()>,
}

impl Bench {
    /// The server has everything, and the node announces its blocks.
    pub(super) async fn settled(test: &str) -> Self {
        let server = FakeServer::start();
        for (group, plural) in
            [(CORE, "nodes"), (CALICO, AFFINITIES), (CALICO, "ippools"), (CALICO, "ipamblocks")]
        {
            server.define(group, plural);
        }
        Self::filled(Self::over(test, server, CalicoApi::Any)).await
    }

    /// The same, and it follows services.
    pub(super) async fn with_services(test: &str) -> Self {
        let server = FakeServer::start();
        for (group, plural) in KINDS {
            server.define(group, plural);
        }
        let services = Services {
            load_balancer: vec!["198.51.100.0/24".parse().unwrap()],
            external: Vec::new(),
            cluster: Vec::new(),
            aggregate: false,
        };
        Self::filled(Self::following(test, server, CalicoApi::CrdV1, |settings| {
            settings.services = Some(services);
        }))
        .await
    }

    /// The same, and it tells the server whether the node is fit for pods.
    pub(super) async fn telling(test: &str) -> Self {
        let server = FakeServer::start();
        for (group, plural) in KINDS {
            server.define(group, plural);
        }
        let bench = Self::following(test, server, CalicoApi::CrdV1, |settings| {
            settings.tainting = Some(Tainting::Managed);
        });
        Self::filled(bench).await
    }

    async fn filled(mut bench: Self) -> Self {
        bench.fill();
        bench.await_announced(&[FIRST, OF_NODE]).await;
        bench.server.await_watch(AFFINITIES).await;
        bench.server.await_watch("nodes").await;
        bench
    }

    pub(super) fn over(test: &str, server: FakeServer, api: CalicoApi) -> Self {
        Self::following(test, server, api, |_| {})
    }

    fn following(test: &str, server: FakeServer, api: CalicoApi, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = std::env::temp_dir().join(format!("selvedge-faults-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let kubernetes = Kubernetes {
            access: Access::Kubeconfig(folder.join("kubeconfig")),
            node_name: None,
            state: folder.join("cluster.json"),
        };
        let pods = Pods {
            node_cidrs: Some(NodeCidrs {}),
            calico: Some(Calico { api, borrowed: Borrowed::Refuse }),
            ..Pods::default()
        };
        let (on_cordon, tainting) = (OnCordon::KeepServices, None);
        let mut settings =
            Settings { kubernetes, node: "c1".to_owned(), pods, services: None, on_cordon, tainting };
        change(&mut settings);
        let (settings, of_task) = watch::channel(Some(settings));
        let (told, to_tell) = watch::channel(Told::Nothing);
        let (snapshot, snapshots) = watch::channel(Arc::default());
        let journal = Arc::new(Mutex::new(Vec::new()));
        let bench = Self { server, snapshots, journal, folder, told, settings, tasks: JoinSet::new() };
        bench.write_kubeconfig("first");
        bench.follow(Inputs { settings: of_task, told: to_tell, snapshot })
    }

    fn follow(mut self, inputs: Inputs) -> Self {
        self.tasks.spawn(run(inputs));
        let (mut snapshots, journal) = (self.snapshots.clone(), self.journal.clone());
        self.tasks.spawn(async move {
            while snapshots.changed().await.is_ok() {
                journal.lock().unwrap().push(snapshots.borrow_and_update().clone());
            }
        });
        self
    }

    /// The agent ends, and another one knows what it decided last.
    pub(super) async fn restart(&mut self) {
        let settings = self.settings.send_replace(None);
        self.await_snapshot("nothing", |now| now.server.is_none()).await;
        self.journal();
        self.settings.send_replace(settings);
    }

    /// With this token of ours.
    pub(super) fn write_kubeconfig(&self, token: &str) {
        self.write_user(&json!({ "token": token }));
    }

    /// With the token in a file of its own.
    pub(super) fn write_token_file(&self, token: &str) {
        let file = self.folder.join("token");
        std::fs::write(&file, token).unwrap();
        self.write_user(&json!({ "tokenFile": file }));
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Another server takes the place of this one, at another address.
    pub(super) fn replace_server(&mut self) {
        self.server = FakeServer::start();
        for (group, plural) in KINDS {
            self.server.define(group, plural);
        }
    }

    fn write_user(&self, user: &Value) {
        let server = format!("http://{}", self.server.address);
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "it", "cluster": { "server": server } }],
            "users": [{ "name": "we", "user": user }],
            "contexts": [{ "name": "we", "context": { "cluster": "it", "user": "we" } }],
            "current-context": "we",
        });
        std::fs::write(self.kubeconfig(), kubeconfig.to_string()).unwrap();
    }

    /// The objects of a node that has one block.
    pub(super) fn fill(&self) {
        self.server.put("nodes", node(&[OF_NODE]));
        self.server.put("ippools", pool());
        let mut of_another = affinity("10.1.200.0/26");
        of_another["spec"]["node"] = "c2".into();
        self.server.put(AFFINITIES, of_another);
        self.allocate(FIRST);
    }

    pub(super) fn allocate(&self, block: &str) {
        self.server.put("ipamblocks", ipam_block(block));
        self.server.put(AFFINITIES, affinity(block));
    }

    pub(super) fn release(&self, block: &str) {
        self.server.delete(AFFINITIES, &affinity_name(block));
        self.server.delete("ipamblocks", &name_of(block));
    }

    pub(super) async fn await_announced(&mut self, blocks: &[&str]) {
        self.await_snapshot(&format!("{blocks:?}"), |snapshot| announced(snapshot) == blocks).await;
    }

    pub(super) async fn await_snapshot(&mut self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        let waited = timeout(PATIENCE, self.snapshots.wait_for(|snapshot| is_so(snapshot))).await.is_ok();
        assert!(waited, "{what}: {:#?}", self.snapshots.borrow());
    }

    /// What was published since the beginning, or since the last time.
    pub(super) fn journal(&self) -> Vec<Arc<Snapshot>> {
        std::mem::take(&mut self.journal.lock().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.settings.send_replace(None);
        self.tasks.abort_all();
        // A thread that has begun to write down what is in force ends with that: it may put a file there while the others
        // are removed.
        let is_refilled = |removed: std::io::Result<()>| {
            removed.is_err_and(|error| error.kind() == ErrorKind::DirectoryNotEmpty)
        };
        while is_refilled(std::fs::remove_dir_all(&self.folder)) {}
    }
}

/// In order.
pub(super) fn announced(snapshot: &Snapshot) -> Vec<String> {
    let blocks = snapshot.desired.blocks.iter().filter(|(_, block)| block.is_announced());
    blocks.map(|(prefix, _)| prefix.to_string()).collect()
}

/// How often the server went away.
pub(super) fn absences(journal: &[Arc<Snapshot>]) -> usize {
    let is_away = journal.iter().map(|snapshot| matches!(snapshot.server, Some(Reach::Away { .. })));
    let is_away: Vec<bool> = std::iter::once(false).chain(is_away).collect();
    is_away.windows(2).filter(|pair| *pair == [false, true]).count()
}

pub(super) fn node(cidrs: &[&str]) -> Value {
    json!({ "metadata": { "name": "c1" }, "spec": { "podCIDR": cidrs[0], "podCIDRs": cidrs } })
}

pub(super) fn pool() -> Value {
    json!({ "metadata": { "name": "default" }, "spec": { "cidr": "10.1.0.0/16" } })
}

pub(super) fn affinity(block: &str) -> Value {
    json!({
        "metadata": { "name": affinity_name(block) },
        "spec": { "cidr": block, "node": "c1", "state": "confirmed", "deleted": "false" },
    })
}

pub(super) fn affinity_name(block: &str) -> String {
    format!("c1-{}", name_of(block))
}

pub(super) fn ipam_block(block: &str) -> Value {
    json!({ "metadata": { "name": name_of(block) }, "spec": { "cidr": block, "affinity": "host:c1" } })
}

/// Of this last octet, for nodes with an endpoint.
pub(super) fn service(name: &str, last: u8) -> Value {
    json!({
        "metadata": { "namespace": "default", "name": name },
        "spec": { "type": "LoadBalancer", "externalTrafficPolicy": "Local" },
        "status": { "loadBalancer": { "ingress": [{ "ip": format!("198.51.100.{last}") }] } },
    })
}

/// The endpoints of a service: one that is ready on this node.
pub(super) fn slice(service: &str, node: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "default",
            "name": format!("{service}-1"),
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["10.1.9.5"], "nodeName": node, "conditions": { "ready": true } }],
    })
}

/// In order, by their last octets.
pub(super) fn announced_services(snapshot: &Snapshot) -> Vec<String> {
    snapshot.desired.services.keys().map(ToString::to_string).collect()
}

pub(super) fn name_of(block: &str) -> String {
    block.replace(['.', '/'], "-")
}
