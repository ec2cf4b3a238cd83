// The stream of the tap, for as long as somebody looks at it: proxies watch only meanwhile.
import { useEffect, useRef, useState } from '../lib/dom.js';
import { connection, open, paused, query, trouble } from '../lib/live.js';
import { useStore } from '../lib/store.js';
import { add, EMPTY, release } from './rows.js';

/** Rows by parameters, null for none; other parameters begin anew. They wait while updates are held back, and while somebody is about to choose one (`pointed`). */
export function useTap(params, pointed) {
  const [state, set] = useState(EMPTY);
  const isPaused = useStore(paused);
  const held = isPaused || pointed;
  const waits = useRef(held);
  waits.current = held;
  const search = params && query(params);
  useEffect(() => {
    set(EMPTY);
    trouble.set(null);
    connection.set({ state: 'waiting', at: 0 });
    if (search === null) return undefined;
    let close = null;
    const look = () => {
      if (document.hidden) {
        close?.();
        close = null;
      } else {
        close ??= open('tap', search, (batch) => set((now) => add(now, batch, waits.current)), { keeps: true });
      }
    };
    look();
    document.addEventListener('visibilitychange', look);
    return () => {
      document.removeEventListener('visibilitychange', look);
      close?.();
    };
  }, [search]);
  useEffect(() => {
    if (!held) set(release);
  }, [held]);
  return { ...state, held: isPaused, trouble: useStore(trouble) };
}
