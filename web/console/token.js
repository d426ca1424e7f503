// The token that this page shows, where the cluster asks for one. It is kept for this tab
// alone (sessionStorage), is in no URL, and goes when the tab is closed or it is forgotten.

import { byId, say } from "./dom.js";

const place = "quoit.token";
const card = byId("token");
const field = byId("token-text");
const forgetButton = byId("token-forget");

/** The token, undefined where none was given. */
export const currentToken = () => sessionStorage.getItem(place) ?? undefined;

/** What a request to the gateway says about who asks. */
export function authorization() {
  const token = currentToken();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Asks for a token, and says why. Resolves when one was given. */
export function askForToken(why) {
  sessionStorage.removeItem(place);
  show();
  say(byId("token-why"), why);
  card.hidden = false;
  field.focus();
  return new Promise((given) => {
    byId("token-form").onsubmit = (event) => {
      event.preventDefault();
      const token = field.value.trim();
      if (token === "") return;
      sessionStorage.setItem(place, token);
      field.value = "";
      card.hidden = true;
      show();
      given();
    };
  });
}

function show() { forgetButton.hidden = !currentToken(); }

forgetButton.addEventListener("click", () => {
  sessionStorage.removeItem(place);
  location.reload(); // with all that was read with it
});
show();
