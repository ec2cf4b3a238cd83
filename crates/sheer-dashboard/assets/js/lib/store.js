// Values that several parts of the page watch.
import { useEffect, useState } from './dom.js';

export function store(value) {
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of watchers) watcher(value);
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useStore(of) {
  const [value, set] = useState(of.get());
  useEffect(() => {
    set(of.get());
    return of.watch(set);
  }, [of]);
  return value;
}
