// One camera: its picture with the classes over it, drawn here, so that every setting acts at once.

const UNKNOWN_DARK = 0xff5a5a5a; // as bytes: red, green, blue, alpha
const UNKNOWN_LIGHT = 0xffb4b4b4;
const HATCH_PX = 6;

export class Scene {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.layer = document.createElement("canvas");
    this.palette = new Uint32Array(256);
    this.classes = [];
    this.picture = null;
    this.shares = null; // of each class, and of unknown at the end
  }

  setClasses(classes) {
    this.classes = classes;
    classes.forEach(([, [red, green, blue]], id) => {
      this.palette[id] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    });
  }

  async decode(header, [jpeg, mask, confidence]) {
    const [image, ids, percent] = await Promise.all([
      createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })),
      inflated(mask),
      confidence.length ? inflated(confidence) : null,
    ]);
    return { header, image, ids, percent };
  }

  show(picture) {
    this.picture?.image.close();
    this.picture = picture;
  }

  // `view`: opacity 0..1, threshold in percent, hidden (a Set of class names)
  draw(view) {
    const { header, image, ids, percent } = this.picture;
    const { canvas, context, layer } = this;
    if (canvas.width !== image.width || canvas.height !== image.height) {
      canvas.width = image.width;
      canvas.height = image.height;
    }
    context.globalAlpha = 1;
    context.drawImage(image, 0, 0);
    const [rows, cols] = header.mask;
    if (layer.width !== cols || layer.height !== rows) {
      layer.width = cols;
      layer.height = rows;
      this.pixels = null;
    }
    const onto = layer.getContext("2d");
    this.pixels ??= onto.createImageData(cols, rows);
    this.paint(new Uint32Array(this.pixels.data.buffer), cols, ids, percent, view);
    onto.putImageData(this.pixels, 0, 0);
    context.globalAlpha = view.opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  }

  paint(pixels, cols, ids, percent, { threshold, hidden }) {
    const colors = this.palette.slice();
    this.classes.forEach(([name], id) => {
      if (hidden.has(name)) colors[id] = 0;
    });
    const counts = new Uint32Array(256);
    const hatched = !hidden.has(null);
    let unknown = 0;
    for (let at = 0, row = 0; at < ids.length; row += 1) {
      for (let col = 0; col < cols; col += 1, at += 1) {
        if (percent !== null && percent[at] < threshold) {
          unknown += 1;
          const light = (row + col) % HATCH_PX < HATCH_PX / 2;
          pixels[at] = hatched ? (light ? UNKNOWN_LIGHT : UNKNOWN_DARK) : 0;
        } else {
          counts[ids[at]] += 1;
          pixels[at] = colors[ids[at]];
        }
      }
    }
    const shares = this.classes.map((_, id) => counts[id] / ids.length);
    this.shares = [...shares, unknown / ids.length];
  }
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
