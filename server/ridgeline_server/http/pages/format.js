// Numbers as people read them. Units are SI; what is not known is a dash.

export const UNKNOWN = "–";
const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];

// Three significant digits, never in exponent form.
export function digits(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(Math.max(2 - magnitude, 0), 6) });
}

// [number, unit], such as ["1.25", "TFLOP/s"].
export function scaled(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return [UNKNOWN, ""];
  const [size, prefix] = PREFIXES.find(([least]) => Math.abs(value) >= least) ?? [1, ""];
  return [digits(value / size), prefix + unit];
}

export function quantity(value, unit) {
  return scaled(value, unit).join(" ").trim();
}

// Such as "5.27k".
export function count(value) {
  return scaled(value, "").join("");
}

// [number, unit] of a duration.
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return [UNKNOWN, ""];
  if (seconds >= 1) return [digits(seconds), "s"];
  return seconds >= 1e-3 || seconds === 0 ? [digits(seconds * 1e3), "ms"] : [digits(seconds * 1e6), "µs"];
}

export function percent(share) {
  return share === null || share === undefined ? UNKNOWN : digits(share * 100);
}

// Such as "2 d 4 h", "3 min", "12 s".
export function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}
