// An HTTP server on Node's own modules and `ws`: `http_peer.mjs HTTP1_PORT HTTP2_PORT`. A WebSocket client: `http_peer.mjs ws URL`.
//
//   /echo      JSON: method, url, version, header fields as they came (names in their case, repeats apart), body length and sha256
//   /trailers  a chunked body with trailer fields
//   /hints     103 Early Hints, then 200
//   /bytes?n=  n bytes in which no block repeats
//   /ws        WebSocket echo
import { createHash } from 'node:crypto';
import http from 'node:http';
import http2 from 'node:http2';
import { createRequire } from 'node:module';
import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';

const { WebSocket, WebSocketServer } = createRequire(`${process.env.SHEER_INTEROP_NODE}/`)('ws');

// Blocks of 64 KiB, each with its number in front: bytes that are lost, doubled or out of order change the checksum.
function* blocks(n) {
  const block = Buffer.alloc(65536, createHash('sha512').update('bytes').digest());
  for (let at = 0; at < n; at += block.length) {
    block.writeBigUInt64BE(BigInt(at));
    yield Buffer.from(block.subarray(0, Math.min(block.length, n - at)));
  }
}

async function handle(request, response) {
  const url = new URL(request.url, 'http://any');
  if (url.pathname === '/bytes') {
    const n = Number(url.searchParams.get('n'));
    response.setHeader('content-length', n);
    return pipeline(Readable.from(blocks(n), { objectMode: false, highWaterMark: 1 << 20 }), response);
  }
  if (url.pathname === '/trailers') {
    response.setHeader('trailer', 'x-sum');
    response.write('first ');
    response.write('second');
    response.addTrailers({ 'x-sum': 'done' });
    return response.end();
  }
  if (url.pathname === '/hints') {
    await new Promise((done) => response.writeEarlyHints({ link: '</style.css>; rel=preload' }, done));
  }
  const digest = createHash('sha256');
  let length = 0;
  for await (const piece of request) {
    digest.update(piece);
    length += piece.length;
  }
  response.setHeader('content-type', 'application/json');
  response.setHeader('X-Mixed-Case', 'yes');
  response.setHeader('set-cookie', ['a=1', 'b=2']);
  const { method, httpVersion: version, rawHeaders: fields, rawTrailers: trailers } = request;
  response.end(JSON.stringify({ method, url: request.url, version, fields, trailers, length, sha256: digest.digest('hex') }));
}

function serve(port1, port2) {
  const listener = (request, response) => handle(request, response).catch((error) => {
    console.error(`${request.method} ${request.url}: ${error.message}`);
    response.destroy?.();
  });
  const one = http.createServer({ maxHeaderSize: 256 * 1024, requestTimeout: 0 }, listener);
  const sockets = new WebSocketServer({ server: one, path: '/ws', maxPayload: 64 << 20 });
  sockets.on('connection', (socket) => {
    socket.on('message', (data, binary) => socket.send(data, { binary }));
    socket.on('close', (code, reason) => console.log(`websocket closed: ${code} ${reason}`));
  });
  one.listen(Number(port1), '::');
  http2.createServer({ settings: { initialWindowSize: 1 << 20 } }, listener).listen(Number(port2), '::', () => console.log('ready'));
}

async function webSocket(url) {
  const fail = (why) => { console.error(why); process.exit(1); };
  const socket = new WebSocket(url, ['chat', 'other'], { headers: { 'X-Sheer-Test': '1' }, maxPayload: 64 << 20 });
  socket.on('error', (error) => fail(`websocket: ${error.message}`));
  await once(socket, 'open');
  const back = async (data, binary) => {
    const next = once(socket, 'message');
    socket.send(data, { binary });
    const [got, isBinary] = await next;
    if (isBinary !== binary || !got.equals(Buffer.from(data))) fail(`websocket: ${data.length} bytes came back changed`);
  };
  await back('hello', false);
  for (const size of [0, 1, 125, 126, 65535, 65536, 4 << 20]) await back(Buffer.alloc(size, size % 251), true);
  const pong = once(socket, 'pong');
  socket.ping('are you?');
  const [payload] = await pong;
  if (payload.toString() !== 'are you?') fail(`websocket: pong with ${payload}`);
  const closed = once(socket, 'close');
  socket.close(4001, 'enough');
  const [code, reason] = await closed;
  if (code !== 4001 || reason.toString() !== 'enough') fail(`websocket: closed with ${code} ${reason}`);
  console.log('ok');
}

const [first, second] = process.argv.slice(2);
if (first === 'ws') await webSocket(second);
else serve(first, second);
