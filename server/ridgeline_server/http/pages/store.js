// What the server told so far: the slots of the last five minutes and the last batches.

const MOST_SLOTS = 150;
const MOST_BATCHES = 600;

export class Store {
  constructor() {
    this.clear();
  }

  clear() {
    this.next = 0;
    this.started = null;
    this.told = null;
    this.slots = {};
    this.batches = {};
  }

  // Take in an answer of /dashboard.json.
  add(told) {
    if (this.started !== null && told.started !== this.started) this.clear(); // another server than before
    this.started = told.started;
    this.next = told.next;
    this.told = told;
    append(this.slots, told.slots, MOST_SLOTS);
    append(this.batches, told.batches, MOST_BATCHES);
  }

  // Seconds from now to the middle of each slot: negative, the newest last.
  ages() {
    const count = this.slots.requests_per_s?.length ?? 0;
    const size = this.told?.slot_s ?? 2;
    return Array.from({ length: count }, (_, place) => (place - count + 0.5) * size);
  }

  has(column) {
    return (this.slots[column] ?? []).some((value) => value !== null);
  }
}

function append(columns, added, most) {
  for (const [name, values] of Object.entries(added)) {
    columns[name] = [...(columns[name] ?? []), ...values].slice(-most);
  }
}
