// Light, dark, or as the system has it.
import { store } from './store.js';

const system = matchMedia('(prefers-color-scheme: dark)');
const now = () => document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light');

/** What is shown: 'light' or 'dark'. */
export const theme = store(now());
system.addEventListener('change', () => theme.set(now()));

export function toggle() {
  const next = now() === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem('theme', next);
  } catch (_) {
    // Storage is off: it holds until the page is closed.
  }
  theme.set(next);
}

/** The value of a colour of base.css, for what is drawn on a canvas. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
