// Every route that the server documents, out of its own /openapi.json.

import { byId, element, write } from "./dom.js";
import { Schemas } from "./schema.js";

const JSON_TYPE = "application/json";

async function show() {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`/openapi.json answers with status ${response.status}`);
  const told = await response.json();
  const schemas = new Schemas(told.components?.schemas ?? {});
  write("about", `${told.info.description ?? ""} Version ${told.info.version}.`);
  const tags = new Map();
  for (const [path, operations] of Object.entries(told.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const tag = operation.tags?.[0] ?? "Others";
      tags.set(tag, [...(tags.get(tag) ?? []), describe(path, method, operation, schemas)]);
    }
  }
  byId("routes").replaceChildren(...[...tags].map(([tag, routes]) => element("section", "tag", element("h2", "", tag), ...routes)));
  byId("search").addEventListener("input", search);
  openNamed();
}

function describe(path, method, operation, schemas) {
  const summary = element("summary", "", element("span", `method ${method}`, method.toUpperCase()), element("code", "", path), element("span", "", operation.summary ?? ""));
  const route = element("details", "route", summary);
  route.id = operation.operationId;
  // Most routes are never opened: what is inside is made when one is.
  route.addEventListener("toggle", () => {
    if (route.open && route.children.length === 1) route.append(inside(path, method, operation, schemas));
  });
  return route;
}

function inside(path, method, operation, schemas) {
  const parts = element("div", "inside");
  if (operation.description) parts.append(element("p", "", operation.description));
  const body = operation.requestBody?.content?.[JSON_TYPE]?.schema;
  const example = body && schemas.example(body);
  parts.append(element("h3", "", "Ask"), command(curl(path, method, operation, example)));
  const parameters = (operation.parameters ?? []).map((each) => [each.name, `${each.in}: ${schemas.type(each.schema)}`, each.required, each.description ?? "", schemas.facts(each.schema)]);
  if (body) parts.append(element("h3", "", "Body"), table(fields(body, schemas)));
  if (parameters.length) parts.append(element("h3", "", body ? "Beside the body" : "Parameters"), table(parameters));
  const answers = Object.entries(operation.responses ?? {});
  parts.append(element("h3", "", "Answers"), table(answers.map(([status, answer]) => [status, Object.keys(answer.content ?? {}).join(", "), false, answer.description ?? "", ""])));
  const good = answers.find(([status]) => status === "200")?.[1].content?.[JSON_TYPE]?.schema;
  if (good) parts.append(element("h3", "", "In a 200"), table(fields(good, schemas).map(([name, type, , about, facts]) => [name, type, false, about, facts])));
  return parts;
}

// A body that is no object has one row.
function fields(schema, schemas) {
  const rows = schemas.rows(schema);
  return rows.length ? rows : [["the whole", schemas.type(schema), false, schemas.resolve(schema).description ?? "", ""]];
}

function table(rows) {
  return element("div", "scrolling", element("table", "", element("tbody", "", ...rows.map(([name, type, isRequired, about, facts]) =>
    element("tr", "", element("td", "", element("code", "", name), ...(isRequired ? [element("small", "", "required")] : [])), element("td", "", type), element("td", "", about, ...(facts ? [element("small", "", facts)] : [])))))));
}

function curl(path, method, operation, example) {
  const filled = (operation.parameters ?? []).reduce((filled, each) => (each.in === "path" ? filled.replace(new RegExp(`\\{${each.name}(:path)?\\}`), each.example ?? each.name) : filled), path);
  const parts = [`curl ${location.origin}${filled}`];
  if (method !== "get" && example === undefined) parts.push(`-X ${method.toUpperCase()}`);
  if (operation.security?.length) parts.push('-H "Authorization: Bearer $KEY"');
  if (example !== undefined) parts.push(`-H 'Content-Type: ${JSON_TYPE}'`, `-d '${JSON.stringify(example).replaceAll("'", "'\\''")}'`);
  return parts.join(" \\\n  ");
}

function command(text) {
  const button = element("button", "", "Copy");
  const shown = element("pre", "", element("code", "", text));
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without TLS, browsers let pages copy on localhost alone.
      getSelection().selectAllChildren(shown);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return element("div", "command", shown, button);
}

function search() {
  const wanted = byId("search").value.trim().toLowerCase();
  for (const tag of document.querySelectorAll(".tag")) {
    const routes = [...tag.querySelectorAll(".route")];
    for (const route of routes) route.hidden = !route.querySelector("summary").textContent.toLowerCase().includes(wanted);
    tag.hidden = routes.every((route) => route.hidden);
  }
}

// /docs#embed opens that route.
function openNamed() {
  const named = byId(decodeURIComponent(location.hash.slice(1)));
  if (named?.tagName !== "DETAILS") return;
  named.open = true;
  named.scrollIntoView();
}

window.addEventListener("hashchange", openNamed);
show().catch((error) => {
  byId("trouble").hidden = false;
  write("trouble", `The routes cannot be shown: ${error.message}. Reload the page to try again.`);
});
