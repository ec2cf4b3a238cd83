// The stream of the tap, for as long as somebody looks at it: proxies watch only meanwhile.
import { useEffect, useState } from '../lib/dom.js';
import { connection, open, paused, query, trouble } from '../lib/live.js';
import { useStore } from '../lib/store.js';
import { add, EMPTY, release } from './rows.js';

/** Rows by parameters, null for none; other parameters begin anew. */
export function useTap(params) {
  const [state, set] = useState(EMPTY);
  const held = useStore(paused);
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
        close ??= open('tap', search, (batch, isHeld) => set((now) => add(now, batch, isHeld)), { keeps: true });
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
  return { ...state, held, trouble: useStore(trouble) };
}
