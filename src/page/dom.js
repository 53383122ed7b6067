// Small tools for the page's elements. The texts of a program go in as text, never as HTML.

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

/**
 * Makes an element: `h('button.quiet', { label: 'Close', onclick }, 'x')`. `label` is its name for
 * those who do not see it, names with `--` are properties of its style, `on...` are listeners.
 */
export function h(name, props, ...kids) {
  if (props?.constructor !== Object) return h(name, {}, props, ...kids);
  const [tag, ...classes] = name.split('.'), node = document.createElement(tag || 'div');
  if (classes.length) node.className = classes.join(' ');
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (key.startsWith('--')) node.style.setProperty(key, value);
    else attribute(node, key === 'label' ? 'aria-label' : key, value === true && !key.startsWith('aria') ? '' : value);
  }
  node.append(...kids.flat(2).filter((kid) => kid !== null && kid !== undefined && kid !== ''));
  return node;
}

/** Sets an attribute, or removes it where there is no value; what is so already costs nothing. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false && !name.startsWith('aria')) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function set(node, text) { if (node.textContent !== text) node.textContent = text; }

export function property(node, name, value) {
  if (node.style.getPropertyValue(name) !== value) node.style.setProperty(name, value);
}

/** A picture of the sheet in the page, by its name. */
export function icon(id) {
  const svg = document.createElementNS(SVG, 'svg'), use = document.createElementNS(SVG, 'use');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${id}`);
  svg.append(use);
  return svg;
}

export function turn(svg, id) {
  const use = svg.firstElementChild, href = `#i-${id}`;
  if (use.getAttribute('href') !== href) use.setAttribute('href', href);
}

export const button = (kind, text, onclick, props) => h(`button${kind}`, { type: 'button', ...props, onclick }, text);
export const press = (node, on) => attribute(node, 'aria-pressed', on);

/** Hands a file to the reader. */
export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** The name of a file, of any text. */
export const fileName = (text, ending) => `${text.replace(/[^\p{L}\p{N}._-]+/gu, '-').slice(0, 80) || 'stepcast'}.${ending}`;
