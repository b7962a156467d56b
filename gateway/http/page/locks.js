/** Names that one tab holds at a time. Where the browser has no locks (on plain http), tabs ask each other. */

const ASK_MILLISECONDS = 150;
const channel = new BroadcastChannel("unclip-locks");
const held = new Set();

channel.addEventListener("message", ({ data }) => {
  if (data.ask) channel.postMessage({ tell: [...held], to: data.ask });
});

/** The names that other tabs, or this one, hold. */
export async function heldNames() {
  if (navigator.locks) return new Set((await navigator.locks.query()).held.map(({ name }) => name));
  return new Set([...held, ...(await others())]);
}

/** Hold a name that nobody holds. Resolves to a function that lets go of it, or to null. */
export async function hold(name) {
  if (navigator.locks) return holdLock(name);
  if ((await heldNames()).has(name)) return null;
  held.add(name);
  return () => held.delete(name);
}

function holdLock(name) {
  return new Promise((resolve) => {
    navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      if (!lock) return resolve(null);
      return new Promise((leave) => resolve(leave));
    });
  });
}

function others() {
  const question = Math.random().toString(36);
  const names = [];
  const hear = ({ data }) => data.to === question && names.push(...data.tell);
  channel.addEventListener("message", hear);
  channel.postMessage({ ask: question });
  return new Promise((resolve) => {
    setTimeout(() => {
      channel.removeEventListener("message", hear);
      resolve(names);
    }, ASK_MILLISECONDS);
  });
}
