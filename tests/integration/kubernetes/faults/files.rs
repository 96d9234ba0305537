//! A kubeconfig that changes, or that nobody can read: found out without a restart, and nothing is lost meanwhile.

use super::*;

#[tokio::test]
async fn a_server_that_has_moved_is_found_by_the_file_that_says_so() {
    let mut bench = Bench::settled("moved").await;
    bench.journal();
    bench.replace_server();
    bench.await_snapshot("an absence", |now| matches!(now.server, Some(Reach::Away { .. }))).await;
    bench.fill();
    bench.allocate(SECOND);
    bench.write_kubeconfig("first");
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
    let is_kept = |snapshot: &&Arc<Snapshot>| announced(snapshot).contains(&FIRST.to_owned());
    assert!(bench.journal().iter().all(|snapshot| is_kept(&snapshot)), "nothing was withdrawn");
}

#[tokio::test]
async fn a_kubeconfig_that_is_a_pipe_holds_up_nothing() {
    let mut bench = Bench::settled("pipe").await;
    std::fs::remove_file(bench.kubeconfig()).unwrap();
    nix::unistd::mkfifo(&bench.kubeconfig(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bench.restart().await;
    bench
        .await_snapshot(
            "a reason",
            |now| matches!(&now.server, Some(Reach::Away { why, .. }) if why.contains("not a regular file")),
        )
        .await;
    assert_eq!(announced(&bench.snapshots.borrow()), [FIRST, OF_NODE]);
    std::fs::remove_file(bench.kubeconfig()).unwrap();
    bench.write_kubeconfig("first");
    bench.allocate(SECOND);
    bench.await_announced(&[FIRST, SECOND, OF_NODE]).await;
}
