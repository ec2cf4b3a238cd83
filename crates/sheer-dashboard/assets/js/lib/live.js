// One stream of server-sent events for the page that is shown, closed while nobody looks.
import { useEffect, useState } from './dom.js';
import { store, useStore } from './store.js';

/** What the line below the page shows. */
export const status = store(null);
/** `{ state: 'waiting' | 'live' | 'away', at }` of the stream that is open. */
export const connection = store({ state: 'waiting', at: 0 });
/** Whether updates are held back. */
export const paused = store(false);
/** Why there is nothing new; null while all is well. */
export const trouble = store(null);

const RETRY = 3000;
const GONE = {
  kind: 'dashboard-away',
  what: 'The dashboard itself does not answer.',
  todo: 'It ends with the command that runs it. Start it again with `sheer dashboard`; this page tries again by itself.',
};

export const query = (params) => {
  const set = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return set.length ? `?${new URLSearchParams(set)}` : '';
};

/** Opens the stream of a page; returns how to close it. While updates are held back `take` is called only where it keeps them itself (`keeps`). */
export function open(page, search, take, { keeps = false } = {}) {
  let source = null;
  let timer = 0;
  const well = () => connection.set({ state: 'live', at: Date.now() });
  const connect = () => {
    source = new EventSource(`/api/${page}/events${search}`);
    source.addEventListener('page', (event) => {
      well();
      trouble.set(null);
      if (keeps || !paused.get()) take(JSON.parse(event.data));
    });
    source.addEventListener('status', (event) => status.set(JSON.parse(event.data)));
    source.addEventListener('problem', (event) => {
      connection.set({ state: 'away', at: connection.get().at });
      trouble.set(JSON.parse(event.data).problem);
    });
    source.onerror = async () => {
      connection.set({ state: 'away', at: connection.get().at });
      // A browser tries again by itself after a lost connection, and gives up, without a word, after an answer that is no stream.
      if (source.readyState !== EventSource.CLOSED) {
        trouble.set(GONE);
        return;
      }
      trouble.set(await reason(page, search));
      timer = setTimeout(connect, RETRY);
    };
  };
  connect();
  return () => {
    clearTimeout(timer);
    if (source) {
      source.onerror = null;
      source.close();
    }
  };
}

async function reason(page, search) {
  try {
    const answer = await fetch(`/api/${page}${search}`);
    const json = await answer.json();
    return json.problem ?? GONE;
  } catch (_) {
    return GONE;
  }
}

/** The model of a page, live; null before the first. Another question begins anew, but shows the old answer until the new one is there. */
export function useLive(page, params) {
  const [data, set] = useState(null);
  const search = query(params);
  useEffect(() => {
    connection.set({ state: 'waiting', at: 0 });
    trouble.set(null);
    let close = null;
    const look = () => {
      if (document.hidden) {
        close?.();
        close = null;
      } else {
        close ??= open(page, search, (model) => set({ search, page, model }));
      }
    };
    look();
    document.addEventListener('visibilitychange', look);
    return () => {
      document.removeEventListener('visibilitychange', look);
      close?.();
    };
  }, [page, search]);
  const mine = data && data.page === page ? data : null;
  return { data: mine?.model ?? null, stale: mine !== null && mine.search !== search, trouble: useStore(trouble) };
}

/** A model that is asked for again every `period` ms, beside the stream of the page. */
export function useAsked(page, params, period) {
  const [answer, set] = useState({ data: null, problem: null });
  const search = query(params);
  useEffect(() => {
    let over = false;
    let timer = 0;
    let first = true;
    const ask = async () => {
      // What was never asked is asked in any case: a page that is opened in the background, or while updates are held, has nothing to show else.
      if (first || (!document.hidden && !paused.get())) {
        first = false;
        try {
          const response = await fetch(`/api/${page}${search}`);
          const json = await response.json();
          if (!over) set(json?.problem ? { data: null, problem: json.problem } : { data: json, problem: null });
        } catch (_) {
          if (!over) set({ data: null, problem: GONE });
        }
      }
      if (!over && period) timer = setTimeout(ask, period);
    };
    ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [page, search, period]);
  return answer;
}
