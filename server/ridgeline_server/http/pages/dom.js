// Writing to the page. Text goes in as text, never as markup: names and answers come from elsewhere.

export function byId(id) {
  return document.getElementById(id);
}

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// A number, and its unit in small letters.
export function writeFigure(id, [number, unit]) {
  byId(id).replaceChildren(number, ...(unit ? [" ", element("small", "", unit)] : []));
}

export function write(id, text) {
  byId(id).textContent = text;
}
