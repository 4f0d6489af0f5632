// A table that sorts by any column, filters, and opens a row to show more.
"use strict";

/**
 * Options:
 *   caption  what it holds, for those who cannot see it
 *   rows     the objects to show
 *   key      (row) => text that is the row's own
 *   columns  {title, help, value(row), show(row), numeric, wide, downFirst}: `value` is a number or
 * a text or null and is what sorts; `show` gives a node or a text, else the value itself is shown;
 * `wide` is for texts of many words; the first column names the row details  (row) => node, where
 * rows open closed   (node) is called with such a node before it goes changed  (rows) is called
 * with the rows in order whenever they or their order change
 */
class SortableTable {
  constructor(options) {
    this.options = options;
    this.order = options.rows;
    this.filter = () => true;
    this.sorted = {column: null, down: false};
    this.lines = new Map(options.rows.map((row) => [row, null]));
    this.headers = options.columns.map((column) => this.#header(column));
    this.body = element("tbody", {});
    this.node = element(
        "div", {class: "scroll", tabindex: "0", role: "region", "aria-label": options.caption},
        element(
            "table", {}, element("caption", {}, options.caption),
            element("thead", {}, element("tr", {}, ...this.headers)), this.body));
    this.#show();
  }

  /** The rows that the filter lets through, in order. */
  get shown() {
    return this.order.filter(this.filter);
  }

  setFilter(filter) {
    this.filter = filter;
    this.#show();
  }

  /** Opens the row and brings it into view; without effect where the filter hides it. */
  open(row) {
    if (!this.filter(row)) return;
    const line = this.#line(row);
    if (!line.detail) this.#toggle(row);
    line.tr.scrollIntoView({block: "center"});
    line.button.focus({preventScroll: true});
  }

  #header(column) {
    const sort = () => this.#sortBy(column);
    return element(
        "th", {scope: "col", class: column.numeric ? "number" : ""},
        element(
            "button", {type: "button", title: column.help ?? null, click: sort}, column.title,
            element("span", {class: "arrow", "aria-hidden": "true"})));
  }

  #sortBy(column) {
    const again = this.sorted.column === column;
    const down = again ? !this.sorted.down : column.downFirst === true;
    this.sorted = {column, down};
    // Rows that lack the value come last either way.
    const compare = (a, b) => {
      const [x, y] = [column.value(a), column.value(b)];
      const missing = [x, y].map((value) => value === null || Number.isNaN(value));
      if (missing[0] || missing[1]) return missing[0] - missing[1];
      const order = column.numeric ? x - y : SortableTable.#collator.compare(x, y);
      return down ? -order : order;
    };
    this.order = [...this.options.rows].sort(compare);
    this.options.columns.forEach((other, i) => {
      const here = other === column;
      if (here)
        this.headers[i].setAttribute("aria-sort", down ? "descending" : "ascending");
      else
        this.headers[i].removeAttribute("aria-sort");
      this.headers[i].querySelector(".arrow").textContent = here ? (down ? "▼" : "▲") : "";
    });
    this.#show();
  }

  // "m8" comes before "m128".
  static #collator = new Intl.Collator("en", {numeric: true});

  #show() {
    const rows = this.shown;
    const lines = rows.map((row) => this.#line(row));
    this.body.replaceChildren(...lines.flatMap(({tr, detail}) => (detail ? [tr, detail] : [tr])));
    if (rows.length === 0) {
      const text =
          this.options.rows.length ? "Nothing passes the filter." : "There is nothing here.";
      this.body.append(element(
          "tr", {}, element("td", {colspan: this.options.columns.length, class: "empty"}, text)));
    }
    this.options.changed?.(rows);
  }

  #line(row) {
    let line = this.lines.get(row);
    if (!line) {
      line = this.#makeLine(row);
      this.lines.set(row, line);
    }
    return line;
  }

  #makeLine(row) {
    const {columns, details, key} = this.options;
    let button = null;
    const cells = columns.map((column, i) => {
      const shown =
          column.show ? column.show(row) : shortNode(String(column.value(row) ?? nothing), 120);
      if (i > 0)
        return element("td", {class: column.numeric ? "number" : column.wide ? "wide" : ""}, shown);
      if (!details)
        return element("th", {scope: "row"}, element("span", {class: "row-name"}, shown));
      button = element(
          "button", {
            type: "button",
            class: "opener row-name",
            "aria-expanded": "false",
            click: () => this.#toggle(row),
          },
          shown);
      return element("th", {scope: "row"}, button);
    });
    return {tr: element("tr", {"data-key": key(row)}, ...cells), button, detail: null};
  }

  #toggle(row) {
    const line = this.#line(row);
    if (line.detail) {
      this.options.closed?.(line.detail);
      line.detail.remove();
      line.detail = null;
    } else {
      const inner = element("div", {class: "detail"});
      line.detail = element(
          "tr", {class: "detail-row"},
          element("td", {colspan: this.options.columns.length}, inner));
      line.tr.after(line.detail);
      inner.append(this.options.details(row));
    }
    line.button.setAttribute("aria-expanded", String(line.detail !== null));
  }
}
