// Numbers, shares and times as people read them.

const THIN = "\u202f";

export function count(value) {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, THIN);
}

export function share(value) {
  const percent = 100 * value;
  return percent >= 0.95 || percent < 0.05 ? `${percent.toFixed(0)} %` : `${percent.toFixed(1)} %`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "\u2013";
  return value >= 99.95 ? count(value) : value.toFixed(value >= 9.995 ? 0 : 1);
}

export function rate(value) {
  return value === null || value === undefined ? "\u2013" : value.toFixed(1);
}

export function duration(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  return hours < 48 ? `${hours} h ${minutes} min` : `${Math.floor(hours / 24)} days`;
}

export function clock(secondsAgo) {
  const at = new Date(Date.now() - 1000 * secondsAgo);
  const pad = (value) => String(value).padStart(2, "0");
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${time}`;
}

// Now, for the name of a file: 20261128T175646Z.
export function stamp() {
  return new Date().toISOString().replace(/[-:]|\.\d+/g, "");
}

// As `Math.max(...values)`, of values that may be missing; null of none.
export function extreme(values, pick) {
  const known = values.filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((a, b) => pick(a, b)) : null;
}
