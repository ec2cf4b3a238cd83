// Lays out maps beside the page, so that it stays quick.
import { layout } from './layout.js';

addEventListener('message', ({ data }) => postMessage({ key: data.key, layout: layout(data.graph) }));
