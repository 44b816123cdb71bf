// Upload FILE under PATHNAME with TOKEN, as a browser or a program does that knows nothing of this service.
// VERCEL_BLOB_API_URL points the client here; MULTIPART=1 sends parts in parallel.
import { openAsBlob } from "node:fs";
import { put } from "@vercel/blob/client";

const { FILE, PATHNAME, TOKEN, MULTIPART, TYPE } = process.env;
try {
  const file = await openAsBlob(FILE, { type: TYPE });
  const result = await put(PATHNAME, file, { access: "public", token: TOKEN, contentType: TYPE, multipart: MULTIPART === "1" });
  console.log(JSON.stringify({ result }));
} catch (error) {
  console.log(JSON.stringify({ error: { name: error.constructor.name, message: error.message } }));
}
