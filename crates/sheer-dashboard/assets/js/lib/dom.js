// Preact and htm, joined: `html` makes elements without a build step.
import { h, render, Fragment, Component } from '../../vendor/preact/preact.js';
import htm from '../../vendor/htm/htm.js';

export { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../../vendor/preact/hooks.js';
export { h, render, Fragment, Component };
export const html = htm.bind(h);

/** Drawn anew only when one of its attributes is another: for parts of which there are hundreds. */
export class Still extends Component {
  shouldComponentUpdate(next) {
    for (const name in next) if (next[name] !== this.props[name]) return true;
    return false;
  }
}
