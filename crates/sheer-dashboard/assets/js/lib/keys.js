// Keys that work on every page. Pages add their own with `useKeys`.
import { useEffect, useRef } from './dom.js';

const typing = (target) => target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** `handlers` by key; a key of two letters is typed one after the other (`g m`). */
export function useKeys(handlers) {
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => {
    let first = '';
    let timer = 0;
    const pressed = (event) => {
      if (event.metaKey || event.ctrlKey || event.altKey) return;
      if (typing(event.target)) {
        if (event.key === 'Escape') event.target.blur();
        return;
      }
      const handler = latest.current[first ? `${first} ${event.key}` : event.key];
      clearTimeout(timer);
      first = '';
      if (handler) {
        event.preventDefault();
        handler(event);
      } else if (event.key === 'g') {
        first = 'g';
        timer = setTimeout(() => (first = ''), 1200);
      }
    };
    document.addEventListener('keydown', pressed);
    return () => {
      clearTimeout(timer);
      document.removeEventListener('keydown', pressed);
    };
  }, []);
}
