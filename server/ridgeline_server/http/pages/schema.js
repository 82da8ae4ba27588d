// A JSON Schema in words and rows.

const DEEPEST = 4;
const LIMITS = [["minimum", "at least"], ["exclusiveMinimum", "above"], ["maximum", "at most"], ["minItems", "entries: at least"], ["maxItems", "entries: at most"], ["minLength", "characters: at least"], ["maxLength", "characters: at most"]];

export class Schemas {
  constructor(components) {
    this.components = components;
  }

  resolve(schema) {
    let found = schema ?? {};
    while (found.$ref) found = this.components[found.$ref.split("/").pop()] ?? {};
    return found;
  }

  // Such as "array of text".
  type(schema, depth = 0) {
    const found = this.resolve(schema);
    if (found.const !== undefined) return JSON.stringify(found.const);
    if (found.enum) return found.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (depth > DEEPEST) return "…";
    const forms = found.anyOf ?? found.oneOf;
    if (forms) return [...new Set(forms.map((form) => this.type(form, depth + 1)))].join(" or ");
    const kinds = [found.type ?? "anything"].flat();
    return kinds.map((kind) => (kind === "array" && found.items ? `array of ${this.type(found.items, depth + 1)}` : kind)).join(" or ");
  }

  // What is said of a value beside its type.
  facts(schema) {
    const found = this.resolve(schema);
    const facts = LIMITS.filter(([key]) => found[key] !== undefined).map(([key, word]) => `${word} ${found[key]}`);
    if (found.default !== undefined) facts.push(`default ${JSON.stringify(found.default)}`);
    return facts.join(", ");
  }

  // [name, type, is it required, description, facts] of the fields, those of objects inside among them.
  rows(schema, prefix = "", depth = 0) {
    const found = this.resolve(schema);
    if (depth > DEEPEST) return [];
    const rows = Object.entries(found.properties ?? {}).flatMap(([name, field]) => [
      [prefix + name, this.type(field), (found.required ?? []).includes(name), this.resolve(field).description ?? "", this.facts(field)],
      ...this.rows(field, `${prefix}${name}.`, depth + 1),
    ]);
    const forms = (found.anyOf ?? []).flatMap((form) => this.rows(form, prefix, depth + 1));
    const entries = found.items ? this.rows(found.items, `${prefix.replace(/\.$/, "")}[].`, depth + 1) : [];
    const seen = new Set();
    return [...rows, ...forms, ...entries].filter(([name]) => !seen.has(name) && seen.add(name));
  }

  example(schema) {
    const found = this.resolve(schema);
    return found.example ?? found.examples?.[0];
  }
}
