// The list of hits below the search box: arrows and Enter go from one to the next.
const HITS_MAX = 200;
let hits = [], hit = -1;

function fillHits(total) {
  const list = byId("hits");
  hits = [];
  if (found) {
    for (let row = 0; row < n && hits.length < HITS_MAX; row++) if (states[row] === FOUND) hits.push(row);
  }
  hit = Math.min(hit, hits.length - 1);
  list.replaceChildren(...hits.map((row, index) => {
    const item = make("li", { id: `hit-${index}` }, ...marked(around(texts.at(row)), foldedQuery));
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(index === hit));
    item.addEventListener("pointerdown", (event) => event.preventDefault());
    item.addEventListener("click", () => {
      goToHit(index);
      // On a small screen the list covers the map.
      if (matchMedia("(max-width: 760px)").matches) { byId("search").blur(); showHits(false); }
    });
    return item;
  }));
  byId("hit-count").textContent = !found ? "" : total > hits.length ? `${counted(total, "match").replace(/hs$/, "hes")}, the first ${HITS_MAX}:`
    : total === 0 ? "No matches" : total === 1 ? "1 match" : `${counted(total)} matches`;
  showHits(Boolean(found) && document.activeElement === byId("search"));
}

// The part of a long text that has the first hit.
function around(text) {
  const [first] = text.length > EXCERPT ? hitsOf(text.slice(0, 20000), foldedQuery) : [];
  if (!first || first[0] < EXCERPT / 2) return excerpt(text);
  return `…${excerpt(text.slice(Math.max(0, first[0] - 40)).replace(/^[\udc00-\udfff]/, ""))}`;
}

function showHits(isShown) {
  byId("results").hidden = !isShown;
  byId("search").setAttribute("aria-expanded", String(isShown));
}

function goToHit(index) {
  if (!hits.length) return;
  hit = (index + hits.length) % hits.length;
  byId("hits").querySelectorAll("li").forEach((item, at) => item.setAttribute("aria-selected", String(at === hit)));
  byId(`hit-${hit}`).scrollIntoView({ block: "nearest" });
  byId("search").setAttribute("aria-activedescendant", `hit-${hit}`);
  go(hits[hit]);
}

function listenToSearch() {
  const box = byId("search");
  box.addEventListener("input", () => setQuery(box.value));
  box.addEventListener("focus", () => showHits(Boolean(found)));
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest?.("#finder")) showHits(false); });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      goToHit(event.key === "ArrowUp" || event.shiftKey ? Math.max(hit, 0) - 1 : hit + 1);
    } else if (event.key === "Escape" && box.value) {
      event.preventDefault();
      event.stopPropagation();
      unpin();
      setQuery("");
    } else if (event.key === "Escape") {
      box.blur();
    }
  });
}
