//! Serves the dashboard of a made-up mesh, for those who work on the page:
//! `cargo run -p sheer-dashboard --example simulated -- 200 8094 crates/sheer-dashboard/assets`. The third argument serves the files of a folder instead of
//! those within the program; an edit shows at the next load.

#[path = "../tests/simulated/mod.rs"]
mod simulated;

use std::sync::Arc;

use sheer_dashboard::Dashboard;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize, default: u16| args.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mesh = match number(1, 8) {
        8 => simulated::Mesh::bank(),
        count => simulated::Mesh::of(count.into()),
    };
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("control.sock");
    let _control = simulated::serve(mesh, &socket);
    let mut dashboard = Dashboard::new(simulated::channel(&socket), Arc::new(simulated::MadeUpChecks));
    if let Some(assets) = args.get(3) {
        dashboard = dashboard.with_assets(assets.into());
    }
    let listener = Dashboard::bind(number(2, 8094)).await?;
    println!("http://{}/", listener.local_addr()?);
    dashboard.serve(listener).await
}
