// A gRPC peer on @grpc/grpc-js: `grpc_peer.mjs serve PORT` or `grpc_peer.mjs call HOST:PORT [METADATA_KIB]`.
//
// The same protocol as grpc_peer.py, which says more; keep them in step. Modules are found beside SHEER_INTEROP_NODE.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { isDeepStrictEqual } from 'node:util';

const grpc = createRequire(`${process.env.SHEER_INTEROP_NODE}/`)('@grpc/grpc-js');
const { Metadata, status } = grpc;
const BINARY = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
const bytes = { requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
const method = (name, requestStream, responseStream) => ({ path: `/interop.Echo/${name}`, requestStream, responseStream, ...bytes });
const definition = {
  Unary: method('Unary', false, false), Fail: method('Fail', false, false), Hang: method('Hang', false, false),
  Cancelled: method('Cancelled', false, false), ServerStream: method('ServerStream', false, true),
  ClientStream: method('ClientStream', true, false), Bidi: method('Bidi', true, true),
};
const options = { 'grpc.max_metadata_size': 256 * 1024, 'grpc-node.max_session_memory': 1024 };
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function echoed(metadata) {
  const out = new Metadata();
  for (const key of Object.keys(metadata.getMap()).filter((k) => k.startsWith('x-echo'))) {
    for (const value of metadata.get(key)) out.add(key, value);
  }
  return out;
}

function withEnd(metadata) {
  const out = metadata.clone();
  out.set('x-end', 'yes');
  return out;
}

function serve(port) {
  let cancelled = 0;
  const head = (call) => {
    const back = echoed(call.metadata);
    call.sendMetadata(back);
    return withEnd(back);
  };
  const server = new grpc.Server(options);
  server.addService(definition, {
    Unary: (call, done) => done(null, call.request, head(call)),
    ServerStream: (call) => {
      const end = head(call);
      for (let n = 0; n < Number(call.request.toString()); n++) call.write(Buffer.from(String(n)));
      call.end(end);
    },
    ClientStream: (call, done) => {
      const end = head(call);
      const digest = createHash('sha256');
      call.on('data', (piece) => digest.update(piece));
      call.on('end', () => done(null, Buffer.from(digest.digest('hex')), end));
    },
    Bidi: (call) => {
      const end = head(call);
      call.on('data', (piece) => call.write(piece));
      call.on('end', () => call.end(end));
    },
    Fail: (_, done) => {
      const metadata = new Metadata();
      metadata.set('x-end', 'yes');
      metadata.set('x-why-bin', BINARY);
      done({ code: status.FAILED_PRECONDITION, details: 'no good: 100 % ünfit', metadata });
    },
    Hang: (call) => call.on('cancelled', () => { cancelled += 1; }),
    Cancelled: (_, done) => done(null, Buffer.from(String(cancelled))),
  });
  server.bindAsync(`[::]:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
    console.log('ready');
  });
}

function same(what, got, wanted) {
  if (isDeepStrictEqual(got, wanted)) return;
  console.error(`${what}: ${JSON.stringify(got)?.slice(0, 300)} where ${JSON.stringify(wanted)?.slice(0, 300)} was sent`);
  process.exit(1);
}

// Values of each name, joined: Node folds repeated fields into one.
function plain(metadata) {
  const keys = Object.keys(metadata.getMap()).filter((k) => k.startsWith('x-')).sort();
  return Object.fromEntries(keys.map((k) => [k, k.endsWith('-bin') ? metadata.get(k)[0].toString('hex') : metadata.get(k).join(', ')]));
}

// Runs a call to its end and gathers all that came.
function outcome(call) {
  return new Promise((done) => {
    const got = { messages: [] };
    call.on('metadata', (metadata) => { got.initial = metadata; });
    call.on('data', (message) => got.messages.push(message));
    call.on('error', (error) => { got.error = error; });
    call.on('status', (end) => done({ ...got, end }));
  });
}

async function main(target, kib) {
  const Client = grpc.makeGenericClientConstructor(definition, 'Echo');
  const client = new Client(target, grpc.credentials.createInsecure(), options);
  const sent = new Metadata({ waitForReady: true });
  for (const value of ['1', '2', '3']) sent.add('x-echo-a', value);
  sent.set('x-echo-bin', BINARY);
  sent.set('x-echo-token', 't'.repeat(6144));
  const deadline = () => ({ deadline: Date.now() + 20_000 });
  const check = (kind, { initial, end }, metadata = sent) => {
    same(`${kind}: status`, [end.code, end.details], [0, end.details]);
    same(`${kind}: initial metadata`, plain(initial), plain(metadata));
    same(`${kind}: trailing metadata`, plain(end.metadata), plain(withEnd(metadata)));
  };
  // A unary call whose message and metadata are both wanted.
  const unary = (name, request, metadata = sent, opts = deadline()) => new Promise((done) => {
    const got = {};
    const call = client[name](request, metadata, opts, (error, answer) => Object.assign(got, { error, answer }));
    call.on('metadata', (initial) => { got.initial = initial; });
    call.on('status', (end) => setImmediate(() => done({ ...got, end })));
  });

  const payload = Buffer.alloc(256 * 1024, createHash('sha512').update('seed').digest());
  let got = await unary('Unary', payload);
  check('unary', got);
  same('unary: message', sha256(got.answer), sha256(payload));

  got = await outcome(client.ServerStream(Buffer.from('500'), sent, deadline()));
  check('server stream', got);
  same('server stream', got.messages.map((m) => Number(m.toString())), [...Array(500).keys()]);

  const pieces = Array.from({ length: 500 }, (_, n) => Buffer.alloc(1000, n % 256));
  got = await new Promise((done) => {
    const all = {};
    const call = client.ClientStream(sent, deadline(), (error, answer) => Object.assign(all, { error, answer }));
    call.on('metadata', (initial) => { all.initial = initial; });
    call.on('status', (end) => setImmediate(() => done({ ...all, end })));
    for (const piece of pieces) call.write(piece);
    call.end();
  });
  check('client stream', got);
  same('client stream', got.answer.toString(), sha256(Buffer.concat(pieces)));

  const call = client.Bidi(sent, deadline());
  const over = outcome(call);
  let turn = 0;
  call.on('data', (message) => {
    same('bidirectional', message, pieces[turn]);
    turn += 1;
    if (turn < 100) call.write(pieces[turn]);
    else call.end();
  });
  call.write(pieces[0]);
  check('bidirectional', await over);
  same('bidirectional: messages', turn, 100);

  got = await unary('Fail', Buffer.alloc(0));
  same('failure: status', [got.end.code, got.end.details], [status.FAILED_PRECONDITION, 'no good: 100 % ünfit']);
  same('failure: metadata', plain(got.end.metadata), { 'x-end': 'yes', 'x-why-bin': BINARY.toString('hex') });

  if (kib) {
    const big = new Metadata();
    for (let n = 0; n < kib; n++) big.set(`x-echo-${String(n).padStart(2, '0')}`, String.fromCharCode(97 + (n % 26)).repeat(1024));
    check(`${kib} KiB of metadata`, await unary('Unary', Buffer.alloc(0), big), big);
  }

  const count = async () => Number((await unary('Cancelled', Buffer.alloc(0))).answer.toString());
  const before = await count();
  const hanging = client.Hang(Buffer.alloc(0), sent, deadline(), () => {});
  await sleep(300);
  hanging.cancel();
  got = await unary('Hang', Buffer.alloc(0), sent, { deadline: Date.now() + 500 });
  same('deadline: status', got.end.code, status.DEADLINE_EXCEEDED);
  const until = Date.now() + 5000;
  while ((await count()) < before + 2) {
    same('the server learns of the cancellation and the deadline', Date.now() < until, true);
    await sleep(50);
  }
  client.close();
  console.log('ok');
}

const [mode, target, kib] = process.argv.slice(2);
if (mode === 'serve') serve(target);
else await main(target, Number(kib ?? 0));
