"""What a page is asked about itself: JavaScript expressions that give a list of faults."""

# Texts that stand out too little from what is behind them (WCAG 2.2, 1.4.3: 4.5, large text 3).
LOW_CONTRAST = """(() => {
  const channels = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(node).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const texts = [...node.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim());
    const text = texts.join("");
    if (!text || !node.checkVisibility() || node.matches("script, noscript, option")) continue;
    const style = getComputedStyle(node);
    const both = [channels(style.color), behind(node)].map(luminance);
    const [a, b] = both.sort((x, y) => y - x);
    const large = parseFloat(style.fontSize) >= 24;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return found;
})()"""

# Elements that reach out of the page and do not scroll within a box of their own.
OVERFLOWING = """(() => {
  const width = document.documentElement.clientWidth;
  const out = document.documentElement.scrollWidth > width ? ["the page"] : [];
  for (const node of document.querySelectorAll("body *")) {
    if (node.closest(".scroll, pre, svg") && !node.matches(".scroll")) continue;
    if (node.checkVisibility() && node.getBoundingClientRect().right > width + 1) {
      out.push(node.tagName + "." + node.className);
    }
  }
  return out;
})()"""

# Fields and buttons without a name, identifiers that occur twice, pictures without a description.
UNNAMED = """[
  ...document.querySelectorAll("button, input, select, canvas, [role=img], [role=region]")]
  .filter((n) => n.checkVisibility() && !n.textContent.trim() && !n.labels?.length && !n.ariaLabel)
  .map((n) => n.outerHTML.slice(0, 80))"""
