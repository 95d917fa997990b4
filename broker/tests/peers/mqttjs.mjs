// Performs the table of behaviours with MQTT.js, over TCP or (argument `ws`) over WebSocket.
//
// The plan comes on standard input, as one JSON object: `host`, `port`, and `rows`, each with a `name` and its `steps`.
// The test `peers.rs` makes it from `behaviours.json`; every value in a step is complete, nothing has a default here.
// One line per row goes to standard output: `ok`, or `failed`, then the name, then what went wrong; separated by tabs.

import { createRequire } from "node:module";
import path from "node:path";
import { text } from "node:stream/consumers";
import { isDeepStrictEqual } from "node:util";

// The packages are in the folder that the test has prepared, which is the working directory.
const mqtt = createRequire(path.resolve("package.json"))("mqtt");

const PROTOCOL = process.argv[2] ?? "mqtt";
// Milliseconds that anything may take that should happen at once; the machine may be busy.
const PATIENCE = 15_000;
const ROWS_AT_ONCE = 16;
const VERSIONS = { "3.1.1": 4, 5: 5 };
const DISCONNECT_WITH_WILL = 0x04;
// What a property of the CONNACK means when it is absent (MQTT 5 section 3.2.2.3).
const UNANNOUNCED = {
  topic_alias_maximum: 0,
  maximum_qos: 2,
  retain_available: 1,
  shared_subscription_available: 1,
};
const MESSAGE_KEYS = ["topic", "payload", "qos", "retain", "repeated", "properties", "identifiers"];

class Failed extends Error {}

/** A value as JSON, cut where a person stops reading. */
function short(value) {
  const json = JSON.stringify(value) ?? "nothing";
  return json.length <= 400 ? json : `${json.slice(0, 400)}… (${json.length} characters)`;
}

function expect(what, expected, seen) {
  if (!isDeepStrictEqual(expected, seen)) {
    throw new Failed(`expected ${what} ${short(expected)}; saw ${short(seen)}`);
  }
}

/** One named client of a row, and what it has seen. */
class Peer {
  messages = [];
  /** Messages published and not acknowledged. */
  unfinished = 0;
  refused = [];
  lostPacket = null;
  connack = null;
  ended = false;
  reason = null;
  waiting = new Set();

  constructor(step, url) {
    this.v5 = step.mqtt === "5";
    const properties = {
      sessionExpiryInterval: step.session_expiry_interval,
      receiveMaximum: step.receive_maximum,
      maximumPacketSize: step.maximum_packet_size,
      authenticationMethod: step.authentication_method,
    };
    // What is under way outlives a goodbye, as in a client that restarts.
    this.stores = {
      incomingStore: new mqtt.Store({ clean: false }),
      outgoingStore: new mqtt.Store({ clean: false }),
    };
    this.client = mqtt.connect(url, {
      ...this.stores,
      protocolVersion: VERSIONS[step.mqtt],
      clientId: step.id,
      clean: step.session === "new",
      keepalive: step.keep_alive,
      reconnectPeriod: 0,
      manualConnect: true,
      properties: this.v5 ? properties : undefined,
      will: step.will && {
        ...step.will,
        properties: this.v5 ? encode(step.will.properties) : undefined,
      },
    });
    if (!step.pings) {
      this.client.sendPing = () => {};
      this.client.onKeepaliveTimeout = () => {};
    }
    this.client.on("packetreceive", (packet) => this.#lose(packet));
    this.client.on("packetreceive", (packet) => this.#note(packet));
    this.client.on("message", (_topic, _payload, packet) => {
      this.messages.push(decode(packet));
      this.#wake();
    });
    this.client.on("close", () => {
      this.ended = true;
      this.#wake();
    });
    // What it means for the row shows in the step that waits.
    this.client.on("error", (error) => (this.error = error));
  }

  connect(again) {
    this.connack = null;
    this.ended = false;
    this.reason = null;
    if (again) this.client.reconnect(this.stores);
    else this.client.connect();
  }

  /** Loses the packet that is to be lost, and the connection with it. */
  #lose(packet) {
    if (packet.cmd !== this.lostPacket) return;
    this.lostPacket = null;
    // Commands that it does not know are ignored.
    packet.cmd = "lost";
    this.client.stream.destroy();
  }

  #note(packet) {
    if (packet.cmd === "connack") {
      this.connack = packet;
      this.#wake();
    } else if (packet.cmd === "disconnect") {
      this.reason = packet.reasonCode;
    }
  }

  #wake() {
    for (const look of this.waiting) look();
  }

  /** Resolves with what `seen` returns as soon as that is not undefined. */
  wait(what, seen) {
    return new Promise((resolve, reject) => {
      const look = () => {
        try {
          const value = seen();
          if (value === undefined) return;
          finish();
          resolve(value);
        } catch (error) {
          finish();
          reject(error);
        }
      };
      const timer = setTimeout(() => {
        finish();
        reject(new Failed(`waited in vain for ${what}; last error: ${this.error}; inbox: ${short(this.messages)}`));
      }, PATIENCE);
      const finish = () => {
        clearTimeout(timer);
        this.waiting.delete(look);
      };
      this.waiting.add(look);
      look();
    });
  }

  waitForEnd() {
    return this.wait("the connection to end", () => this.ended || undefined);
  }

  publish(topic, payload, options) {
    this.unfinished += 1;
    this.client.publish(topic, payload, options, (error) => {
      this.unfinished -= 1;
      if (error) this.refused.push(error.message);
      this.#wake();
    });
  }

  /** What `send` calls back with, unless the connection ends first. */
  answer(send) {
    let answered;
    send((error, ...values) => {
      answered = { error, values };
      this.#wake();
    });
    return this.wait("an answer", () => {
      if (answered) return answered;
      if (this.ended) throw new Failed(`no answer, but the connection ended with reason ${this.reason}`);
      return undefined;
    });
  }
}

/** Performs the steps of one row: its methods are named like them. */
class Row {
  peers = new Map();

  constructor(url) {
    this.url = url;
  }

  async connect(step) {
    if (!step.again) this.peers.set(step.client, new Peer(step, this.url));
    const peer = this.peers.get(step.client);
    peer.connect(step.again);
    const connack = await peer.wait("a CONNACK", () => {
      if (peer.connack) return peer.connack;
      if (peer.ended) throw new Failed(`no CONNACK, but the connection ended: ${peer.error}`);
      return undefined;
    });
    expect("CONNACK code", step.refused, peer.v5 ? connack.reasonCode : connack.returnCode);
    if (step.session_present !== null) expect("session present", step.session_present, connack.sessionPresent);
    for (const [name, value] of Object.entries(step.announced)) {
      const announced = decodeProperties(connack.properties ?? {})[name] ?? UNANNOUNCED[name];
      if (announced === undefined || (value !== null && Number(announced) !== value)) {
        throw new Failed(`expected the CONNACK to announce ${name} ${short(value)}; saw ${short(announced)}`);
      }
    }
  }

  async subscribe(step) {
    const peer = this.peers.get(step.client);
    const options = { qos: step.qos };
    if (peer.v5) {
      options.nl = step.no_local;
      options.rap = step.retain_as_published;
      options.rh = step.retain_handling;
      if ("identifier" in step) options.properties = { subscriptionIdentifier: step.identifier };
    }
    const { error, values } = await peer.answer((done) => peer.client.subscribe(step.to, options, done));
    const suback = values[1];
    if (!suback) throw new Failed(`no SUBACK: ${error}`);
    expect("SUBACK codes", step.granted, suback.granted);
  }

  async unsubscribe(step) {
    const peer = this.peers.get(step.client);
    const { error, values } = await peer.answer((done) => peer.client.unsubscribe(step.from, done));
    if (error) throw error;
    if (peer.v5 && step.answer !== null) expect("UNSUBACK code", [step.answer], values[0].granted);
  }

  async publish(step) {
    const peer = this.peers.get(step.client);
    const { qos, retain } = step;
    peer.publish(step.topic, step.payload, { qos, retain, properties: peer.v5 ? encode(step.properties) : undefined });
    if (!step.unanswered) await this.finished(step);
  }

  async finished(step) {
    const peer = this.peers.get(step.client);
    await peer.wait("all acknowledgements", () => {
      if (peer.unfinished === 0) return true;
      if (peer.ended) throw new Failed(`not acknowledged, but the connection ended with reason ${peer.reason}`);
      return undefined;
    });
    expect("reasons of refused messages", [], peer.refused);
  }

  async receive(step) {
    const peer = this.peers.get(step.client);
    const expected = Object.fromEntries(
      MESSAGE_KEYS.filter((key) => (step[key] ?? null) !== null).map((key) => [key, step[key]]),
    );
    const fits = (message) => MESSAGE_KEYS.every((key) => !(key in expected) || isDeepStrictEqual(message[key], expected[key]));
    const message = await peer.wait(short(expected), () => {
      if (!step.any_order) return peer.messages.shift();
      const index = peer.messages.findIndex(fits);
      return index < 0 ? undefined : peer.messages.splice(index, 1)[0];
    });
    if (!fits(message)) throw new Failed(`expected ${short(expected)}; received ${short(message)}`);
  }

  lose(step) {
    this.peers.get(step.client).lostPacket = step.packet.toLowerCase();
  }

  async leave(step) {
    const peer = this.peers.get(step.client);
    const options = step.with_will ? { reasonCode: DISCONNECT_WITH_WILL } : {};
    peer.client.end(false, options);
    await peer.waitForEnd();
  }

  async cut(step) {
    const peer = this.peers.get(step.client);
    peer.client.stream.destroy();
    await peer.waitForEnd();
  }

  async gone(step) {
    const peer = this.peers.get(step.client);
    await peer.waitForEnd();
    if (step.reason !== null) expect("DISCONNECT reason", step.reason, peer.reason);
  }

  wait_ms(step) {
    return new Promise((resolve) => setTimeout(resolve, step.milliseconds));
  }

  close() {
    for (const peer of this.peers.values()) peer.client.end(true);
  }
}

/** `content_type` is called `contentType` here. */
function camelCase(name) {
  return name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}

function encode(properties) {
  const encoded = {};
  for (const [name, value] of Object.entries(properties)) {
    if (name === "user_property") encoded.userProperties = value;
    else if (name === "correlation_data") encoded.correlationData = Buffer.from(value);
    else if (name === "payload_format_indicator") encoded.payloadFormatIndicator = value === 1;
    else encoded[camelCase(name)] = value;
  }
  return encoded;
}

/** The properties by the names that the table has for them. */
function decodeProperties(properties) {
  const decoded = {};
  for (const [name, value] of Object.entries(properties)) {
    if (name === "userProperties") decoded.user_property = { ...value };
    else if (name === "correlationData") decoded.correlation_data = value.toString();
    else if (name === "maximumQoS") decoded.maximum_qos = value;
    else {
      const tableName = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      decoded[tableName] = typeof value === "boolean" ? Number(value) : value;
    }
  }
  return decoded;
}

function decode(packet) {
  const properties = decodeProperties(packet.properties ?? {});
  const identifiers = [properties.subscription_identifier ?? []].flat().sort((a, b) => a - b);
  delete properties.subscription_identifier;
  return {
    topic: packet.topic,
    payload: packet.payload.toString(),
    qos: packet.qos,
    retain: packet.retain,
    repeated: packet.dup,
    properties,
    identifiers,
  };
}

/** Performs the steps; returns what went wrong. */
async function performRow(url, steps) {
  const row = new Row(url);
  try {
    for (const [index, step] of steps.entries()) {
      try {
        await row[step.do](step);
      } catch (error) {
        const reason = error instanceof Failed ? error.message : error.stack;
        return `step ${index + 1} (${step.do} ${step.client ?? ""}): ${reason}`.replaceAll(/\s+/g, " ");
      }
    }
    return null;
  } finally {
    row.close();
  }
}

const plan = JSON.parse(await text(process.stdin));
const url = `${PROTOCOL}://${plan.host}:${plan.port}`;
const rows = plan.rows[Symbol.iterator]();
const worker = async () => {
  for (const { name, steps } of rows) {
    const failure = await performRow(url, steps);
    console.log((failure === null ? ["ok", name] : ["failed", name, failure]).join("\t"));
  }
};
await Promise.all(Array.from({ length: ROWS_AT_ONCE }, worker));
// Whatever a client library still waits for is of no interest now.
process.exit(0);
