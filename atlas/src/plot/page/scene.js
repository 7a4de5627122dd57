// Paints points: with WebGL 2 where it is to be had, on a plain canvas elsewhere. Knows nothing of labels or searches:
// each point has a colour, a shape and a state.
const HIDDEN = 0, DIM = 1, SHOWN = 2, FOUND = 3;

const VERTEX = `#version 300 es
in vec2 place; in vec4 look; in float state;
uniform vec2 middle; uniform vec2 scale; uniform float radius; uniform bool top; uniform float opacity; uniform vec3 dim;
out vec4 colour; flat out int shape; flat out float pixels; flat out float side;
void main() {
  bool found = state > 2.5;
  gl_Position = state < 0.5 || found != top ? vec4(2.0, 2.0, 2.0, 1.0) : vec4((place - middle) * scale, 0.0, 1.0);
  pixels = found ? radius * 1.2 + 0.8 : radius;
  shape = int(look.a * 255.0 + 0.5);
  side = shape == 0 ? pixels * 2.0 + 1.5 : pixels * 3.0 + 2.0;
  gl_PointSize = side;
  colour = state < 1.5 ? vec4(dim, 0.3) : vec4(look.rgb, found ? 1.0 : opacity);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec4 colour; flat in int shape; flat in float pixels; flat in float side;
out vec4 result;
float plus(vec2 p) { p = abs(p); return min(max(p.x - 0.42, p.y - 1.25), max(p.x - 1.25, p.y - 0.42)); }
float triangle(vec2 p) { return max(p.y - 0.85, dot(vec2(abs(p.x), p.y + 1.25), vec2(0.877, -0.480))); }
float star(vec2 p) {
  const vec2 a = vec2(0.809017, -0.587785), b = vec2(-0.809017, -0.587785);
  p.y = -p.y; p.x = abs(p.x); p -= 2.0 * max(dot(a, p), 0.0) * a; p -= 2.0 * max(dot(b, p), 0.0) * b;
  p.x = abs(p.x); p.y -= 1.45;
  vec2 arm = 0.43 * vec2(-a.y, a.x) - vec2(0.0, 1.0);
  float along = clamp(dot(p, arm) / dot(arm, arm), 0.0, 1.45);
  return length(p - arm * along) * sign(p.y * arm.x - p.x * arm.y);
}
void main() {
  vec2 p = (gl_PointCoord - 0.5) * side / pixels;
  float d = shape == 0 ? length(p) - 1.0
    : shape == 1 ? triangle(p)
    : shape == 2 ? max(abs(p.x), abs(p.y)) - 0.9
    : shape == 3 ? plus(vec2(p.x + p.y, p.x - p.y) * 0.70711)
    : shape == 4 ? (abs(p.x) / 1.1 + abs(p.y) / 1.35 - 1.0) * 0.85
    : shape == 5 ? plus(p)
    : shape == 6 ? triangle(vec2(p.x, -p.y))
    : star(p);
  float alpha = colour.a * clamp(0.5 - d * pixels, 0.0, 1.0);
  if (alpha <= 0.0) discard;
  result = vec4(colour.rgb * alpha, alpha);
}`;

// Returns a painter: setLooks(Uint8Array n*4, colour of those that are dim: many of them on a spot must not add up to one
// that is not), setStates(Uint8Array n), paint(canvas, panel, view, radius, opacity, most),
// which draws the first `most` points of the order.
// `order` is the order of drawing: shuffled, so that no label hides the others. `outlines` are of radius 10.
// `restored` is called when the browser lost what was uploaded and can take it again.
function makePainter(panels, order, outlines, restored) {
  const surface = document.createElement("canvas");
  const gl = new URLSearchParams(location.hash.slice(1)).has("plain")
    ? null : surface.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  surface.addEventListener("webglcontextlost", (event) => event.preventDefault());
  surface.addEventListener("webglcontextrestored", restored);
  return gl ? glPainter(gl, surface, panels, order) : plainPainter(panels, order, outlines);
}

function glPainter(gl, surface, panels, order) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  const uniform = (name) => gl.getUniformLocation(program, name);
  const [middle, scale, size, top, opacity, dim] = ["middle", "scale", "radius", "top", "opacity", "dim"].map(uniform);
  const upload = (buffer, values, target = gl.ARRAY_BUFFER) => {
    gl.bindBuffer(target, buffer);
    gl.bufferData(target, values, gl.DYNAMIC_DRAW);
    return buffer;
  };
  const attribute = (name, buffer, count, type, normal) => {
    const place = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, count, type, normal, 0, 0);
  };
  const points = panels.map((panel) => upload(gl.createBuffer(), panel.xy));
  const [looks, states] = [gl.createBuffer(), gl.createBuffer()];
  upload(gl.createBuffer(), order, gl.ELEMENT_ARRAY_BUFFER);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  let anyFound = false;
  return {
    kind: "webgl2",
    gl,
    setLooks(values, faint) {
      upload(looks, values);
      gl.uniform3f(dim, ...faint.map((channel) => channel / 255));
    },
    setStates(values) {
      upload(states, values);
      anyFound = values.includes(FOUND);
    },
    paint(canvas, panel, view, radius, alpha, most) {
      const { width, height } = canvas;
      if (surface.width !== width || surface.height !== height) Object.assign(surface, { width, height });
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      attribute("place", points[panel], 2, gl.FLOAT, false);
      attribute("look", looks, 4, gl.UNSIGNED_BYTE, true);
      attribute("state", states, 1, gl.UNSIGNED_BYTE, false);
      gl.uniform2f(middle, view.x, view.y);
      gl.uniform2f(scale, (2 * view.scale) / width, (2 * view.scale) / height);
      gl.uniform1f(size, radius);
      gl.uniform1f(opacity, alpha);
      for (const pass of anyFound ? [0, 1] : [0]) {
        gl.uniform1i(top, pass);
        gl.drawElements(gl.POINTS, Math.min(most, order.length), gl.UNSIGNED_INT, 0);
      }
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, width, height);
      context.drawImage(surface, 0, 0);
    },
  };
}

function plainPainter(panels, order, outlines) {
  const shapes = outlines.map((outline) => new Path2D(outline));
  let looks, states, dim;
  return {
    kind: "canvas",
    setLooks: (values, faint) => { [looks, dim] = [values, faint]; },
    setStates: (values) => { states = values; },
    paint(canvas, panel, view, radius, alpha, most) {
      const { width, height } = canvas;
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, width, height);
      const xy = panels[panel].xy;
      for (const top of [false, true]) {
        for (let i = 0; i < Math.min(most, order.length); i++) {
          const row = order[i];
          const state = states[row];
          if (state === HIDDEN || (state === FOUND) !== top) continue;
          const x = (xy[2 * row] - view.x) * view.scale + width / 2;
          const y = height / 2 - (xy[2 * row + 1] - view.y) * view.scale;
          if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
          const r = top ? radius * 1.2 + 0.8 : radius;
          context.globalAlpha = top ? 1 : state === DIM ? 0.3 : alpha;
          context.fillStyle = `rgb(${state === DIM ? dim : looks.subarray(4 * row, 4 * row + 3)})`;
          if (r < 2.5) {
            context.fillRect(x - r, y - r, 2 * r, 2 * r);
          } else {
            context.setTransform(r / 10, 0, 0, r / 10, x, y);
            context.fill(shapes[looks[4 * row + 3]]);
            context.setTransform(1, 0, 0, 1, 0, 0);
          }
        }
      }
      context.globalAlpha = 1;
    },
  };
}
