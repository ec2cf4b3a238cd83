//! The plot: CPU a request and latency of every pair, as an SVG that stands by itself on light and dark pages.

use std::fmt::Write as _;

use crate::{
    h2load::LOADS,
    peer::Peer,
    runner::{Loaded, Measured},
};

const WIDTH: f64 = 900.0;
const ROW: f64 = 26.0;
const LABEL: f64 = 90.0;
const PANEL: f64 = 340.0;
const GAP: f64 = 50.0;
const TOP: f64 = 64.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600}.s{fill:#57606a;font-size:11px}\
.bg{fill:#fff}.g{stroke:#d0d7de}.out{fill:#0969da}.in{fill:#54aeff}.o .out{fill:#8c959f}.o .in{fill:#c6cdd5}\
.l{stroke:#0969da}.d{fill:#0969da}.o .l{stroke:#8c959f}.o .d{fill:#8c959f}\
@media(prefers-color-scheme:dark){.bg{fill:#0d1117}text{fill:#e6edf3}.s{fill:#9198a1}.g{stroke:#3d444d}}";

/// Draws everything that was measured.
pub(crate) fn draw(measured: &[Measured]) -> String {
    let block = TOP + ROW * measured.len() as f64 + 30.0;
    let height = block * LOADS.len() as f64 + 10.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"CPU a request and latency of pairs of proxies\"><style>{STYLE}</style>\
         <rect class=\"bg\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n"
    );
    for (n, load) in LOADS.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(10 {})\">", block * n as f64);
        let title = format!(
            "{}: {} connections, {} streams each",
            load.name, load.connections, load.streams
        );
        text(&mut svg, 0.0, 24.0, "t", &title);
        text(&mut svg, LABEL, 46.0, "s", "CPU µs a request: outbound, inbound");
        text(
            &mut svg,
            LABEL + PANEL + GAP,
            46.0,
            "s",
            "latency µs at half of the knee: p50 ● p99 ● p99.9 (log)",
        );
        let rows: Vec<(&Measured, &Loaded)> = measured.iter().map(|m| (m, &m.loads[n])).collect();
        cpu_panel(&mut svg, &rows);
        latency_panel(&mut svg, &rows);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn cpu_panel(svg: &mut String, rows: &[(&Measured, &Loaded)]) {
    let most = rows.iter().map(|(_, l)| l.median(|s| s.cpu())).fold(1.0, f64::max);
    let scale = (PANEL - 50.0) / most;
    for (row, (peer, loaded)) in rows.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (out, inn) = (
            loaded.median(|s| s.cpu_outbound) * scale,
            loaded.median(|s| s.cpu_inbound) * scale,
        );
        let _ = writeln!(svg, "<g class=\"{}\">", class(peer.peer));
        text(svg, 0.0, y + 13.0, "", peer.peer.name());
        bar(svg, "out", LABEL, y, out);
        bar(svg, "in", LABEL + out, y, inn);
        text(
            svg,
            LABEL + out + inn + 6.0,
            y + 13.0,
            "s",
            &format!("{:.1}", loaded.median(|s| s.cpu())),
        );
        svg.push_str("</g>\n");
    }
}

fn latency_panel(svg: &mut String, rows: &[(&Measured, &Loaded)]) {
    let worst = rows
        .iter()
        .map(|(_, l)| l.latencies.quantile(0.999))
        .max()
        .unwrap_or(1)
        .max(1000);
    let decades = f64::from(worst).log10().ceil() - 1.0;
    let left = LABEL + PANEL + GAP;
    let x = |micros: u32| left + (f64::from(micros.max(10)).log10() - 1.0) / decades * PANEL;
    let bottom = TOP + ROW * rows.len() as f64;
    for decade in 1..=decades as u32 + 1 {
        let at = x(10_u32.pow(decade));
        let _ = writeln!(
            svg,
            "<line class=\"g\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>"
        );
        text(svg, at - 12.0, bottom + 14.0, "s", &10_u32.pow(decade).to_string());
    }
    for (row, (peer, loaded)) in rows.iter().enumerate() {
        let y = TOP + ROW * row as f64 + 9.0;
        let at = [0.5, 0.99, 0.999].map(|q| x(loaded.latencies.quantile(q)));
        let _ = write!(svg, "<g class=\"{}\">", class(peer.peer));
        let _ = write!(
            svg,
            "<line class=\"l\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke-width=\"2\"/>",
            at[0], at[2]
        );
        for (cx, r) in at.into_iter().zip([5.0, 4.0, 2.5]) {
            let _ = write!(svg, "<circle class=\"d\" cx=\"{cx:.1}\" cy=\"{y}\" r=\"{r}\"/>");
        }
        svg.push_str("</g>\n");
    }
}

/// Ours stands out; the others are grey.
fn class(peer: Peer) -> &'static str {
    if peer == Peer::Sheer { "us" } else { "o" }
}

fn bar(svg: &mut String, class: &str, x: f64, y: f64, width: f64) {
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>"
    );
}
