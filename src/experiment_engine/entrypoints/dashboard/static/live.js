// New events, drawn by the server, on top of the list; the page works without.
const list = document.querySelector("[data-live]"), state = document.querySelector("[data-live-state]");
if (list) {
  const source = new EventSource(list.dataset.live);
  source.onopen = () => { state.textContent = "Live: new ones appear on top."; };
  source.onerror = () => { state.textContent = "The connection is gone; it is tried again."; };
  source.onmessage = (event) => {
    list.insertAdjacentHTML("afterbegin", event.data);
    while (list.children.length > 200) list.lastElementChild.remove();
  };
  addEventListener("pagehide", () => source.close());
}
