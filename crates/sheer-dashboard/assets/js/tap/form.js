// The filters of the tap, which are those of the proxies: what does not fit is not sent.
import { html, useRef } from '../lib/dom.js';
import { change } from '../lib/address.js';
import { useAsked } from '../lib/live.js';

/** Parameters of the address that choose what is shown. */
export const FILTERS = ['of', 'to', 'method', 'path', 'authority', 'status', 'grpc', 'header', 'trace', 'over_ms', 'failed'];

const TEXTS = [
  ['to', 'To', 'svc/ledger', '130px'],
  ['method', 'Method', 'POST', '74px'],
  ['path', 'Path begins', '/bank.v1.', '170px'],
  ['status', 'Status', '5xx, !2xx', '84px'],
  ['grpc', 'gRPC status', 'unavailable, !0', '122px'],
  ['over_ms', 'Longer than (ms)', '200', '96px'],
  ['header', 'Header', 'x-tenant=acme', '130px'],
  ['trace', 'Trace or request id', '4bf92f35…', '130px'],
];
const RATES = ['10', '100', '500', '1000'];

export function Form({ params }) {
  const timers = useRef({});
  const { data } = useAsked('workloads', { ns: params.ns }, 0);
  const later = (name) => (event) => {
    const value = event.target.value.trim();
    clearTimeout(timers.current[name]);
    timers.current[name] = setTimeout(() => change({ [name]: value }, { replace: true }), 400);
  };
  // A name is taken when it is whole: `deploy/web` is of the namespace that is chosen.
  const whose = (event) => {
    const value = event.target.value.trim();
    const whole = /^(deploy|sts|pod)\/[^/]+$/.test(value) && params.ns ? `${params.ns}/${value}` : value;
    if (whole === '' || /^[^/]+\/(deploy|sts|pod)\/[^/]+$/.test(whole)) later('of')({ target: { value: whole } });
  };
  const failed = params.failed === '1';
  const rate = params.rate || '100';
  const used = FILTERS.some((name) => params[name]);
  return html`<form class="form" role="search" onSubmit=${(event) => event.preventDefault()}>
    <label>Workload or pod<input type="search" class="control" list="workloads" style=${{ width: '176px' }} value=${params.of ?? ''} placeholder=${params.ns ? `all of ${params.ns}` : 'bank/deploy/web'} onInput=${whose} /></label>
    <datalist id="workloads">${(data?.workloads ?? []).map((row) => html`<option key=${row.id} value=${row.id}></option>`)}</datalist>
    ${TEXTS.map(([name, label, hint, width]) => html`<label key=${name}>${label}<input type="text" class="control" style=${{ width }} value=${params[name] ?? ''} placeholder=${hint} onInput=${later(name)} /></label>`)}
    <label>At most<select class="control" value=${rate} onChange=${(event) => change({ rate: event.target.value })}>
      ${RATES.map((name) => html`<option key=${name} value=${name} selected=${name === rate}>${name}/s</option>`)}</select></label>
    <button type="button" class="control" aria-pressed=${failed} title="Only what failed; failures that proxies have kept come first" onClick=${() => change({ failed: failed ? '' : '1' })}>Failed only</button>
    ${used && html`<button type="button" class="control" onClick=${() => change(Object.fromEntries(FILTERS.map((name) => [name, ''])))}>Clear</button>`}
  </form>`;
}
