# The browser of the dashboard's tests: Debian's Chromium with fonts, and what drives it. Sourced by setup.sh, after 20-peers.sh.
if [ "$what" = test ]; then
  packages chromium fonts-inter fonts-dejavu-core
  node_modules dashboard-node "$here/crates/sheer-dashboard/tests/browser"
fi
