// What the theme leaves out for people who use a keyboard or a screen reader: tables that scroll can be scrolled by key,
// and the buttons to copy are no landmarks, of which a page would have dozens without a name. Options are not broken after
// their hyphens.
function keepOptions(code) {
  code.dataset.kept = "";
  for (const node of [...code.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE && one.data.includes("-"))) {
    const pieces = node.data.split(/(--?[\w-]+)/).filter(Boolean);
    node.replaceWith(...pieces.map((piece) => {
      if (!piece.startsWith("-")) return piece;
      const whole = document.createElement("span");
      whole.style.whiteSpace = "nowrap";
      whole.append(piece);
      return whole;
    }));
  }
}

function mend() {
  for (const code of document.querySelectorAll(".md-typeset :not(pre) > code:not([data-kept])")) keepOptions(code);
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
  for (const tools of document.querySelectorAll("nav.md-code__nav")) tools.setAttribute("role", "presentation");
}

new MutationObserver(mend).observe(document.documentElement, { childList: true, subtree: true });
addEventListener("DOMContentLoaded", mend);
