//! The page in headless Chromium, of made-up meshes: what is shown, that the console is silent, axe, keys, 200 services, a control plane that is away.
//! Of a real mesh: `crates/sheer/tests/local_mesh/dashboard.rs`. Tools: `tools/setup.sh test`.

mod simulated;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sheer_dashboard::Dashboard;
use sheer_testkit::browser::{self, PATIENCE};
use simulated::{MadeUpChecks, Mesh};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

/// The first useful picture of 200 services: 1.5 s on an idle machine; tests share theirs with others, and only a much slower page fails here.
const PICTURE_MS: u32 = 6_000;

/// Screenshots of this run, kept for whoever wants to look.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard")
}

fn script(name: &str, args: &[&str]) -> Child {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(name);
    browser::start(&file, args).expect("the browser starts")
}

async fn ends_well(child: Child) {
    match browser::finish(child).await {
        Ok(said) => println!("{said}"),
        Err(error) => panic!("{error:#}"),
    }
}

/// The address of a dashboard, whose control plane's socket is in the folder.
async fn serve(folder: &Path) -> String {
    let listener = Dashboard::bind(0).await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let dashboard = Dashboard::new(simulated::channel(&folder.join("control.sock")), Arc::new(MadeUpChecks));
    tokio::spawn(async move { dashboard.serve(listener).await.expect("it is served") });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_logic_of_the_page_holds() {
    ends_well(script("logic.mjs", &[])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_page_shows_what_it_should_in_both_themes_and_widths() {
    let state = tempfile::tempdir().unwrap();
    let _control = simulated::serve(Mesh::bank(), &state.path().join("control.sock"));
    let url = serve(state.path()).await;
    let folder = folder();
    ends_well(script(
        "pages.mjs",
        &[&url, &folder.display().to_string(), "bank/deploy/ledger"],
    ))
    .await;
    let pictures = std::fs::read_dir(&folder).unwrap().count();
    assert!(pictures >= 48, "{pictures} screenshots in {}", folder.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_can_be_used_by_keyboard_and_by_links() {
    let state = tempfile::tempdir().unwrap();
    let _control = simulated::serve(Mesh::bank(), &state.path().join("control.sock"));
    let url = serve(state.path()).await;
    ends_well(script("use.mjs", &[&url])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_map_of_200_services_stands_soon_and_can_be_read() {
    let state = tempfile::tempdir().unwrap();
    let _control = simulated::serve(Mesh::of(200), &state.path().join("control.sock"));
    let url = serve(state.path()).await;
    let limit = PICTURE_MS.to_string();
    ends_well(script(
        "large.mjs",
        &[&url, &folder().display().to_string(), "200", &limit],
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_control_plane_that_is_away_is_said_plainly_until_it_is_back() {
    let state = tempfile::tempdir().unwrap();
    let url = serve(state.path()).await;
    let mut child = script("away.mjs", &[&url]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
    let _control =
        (said.as_deref() == Some("away")).then(|| simulated::serve(Mesh::bank(), &state.path().join("control.sock")));
    ends_well(child).await;
}
