#include "media/send_chain.h"

#include <gst/rtp/rtp.h>
#include <gst/video/video.h>

#include <algorithm>
#include <mutex>

#include "media/edge.h"

GST_DEBUG_CATEGORY_STATIC(cf_realtime_media_debug);
#define GST_CAT_DEFAULT cf_realtime_media_debug

namespace cfr {

namespace {

constexpr guint kMtu = 1200;              // bytes of an RTP packet; leaves room for SRTP and TURN
constexpr guint kKeyFrameIntervalS = 4;   // viewers ask when they need one sooner
constexpr guint64 kBitsPerPixel1000 = 70;  // default bitrate: 0.07 bit a pixel
constexpr guint kMinKbps = 300, kMaxKbps = 6000;

void set_text(GstElement* element, const char* property, const char* value) {
  if (g_object_class_find_property(G_OBJECT_GET_CLASS(element), property))
    gst_util_set_object_arg(G_OBJECT(element), property, value);
}

Error peer_error(std::string message) {
  Error error;
  error.kind = ErrorKind::peer;
  error.message = std::move(message);
  return error;
}

guint kbps_for(const GstCaps* raw) {
  GstVideoInfo info;
  if (!gst_video_info_from_caps(&info, raw)) return 1500;
  guint64 fps1000 = 30000;
  if (GST_VIDEO_INFO_FPS_N(&info) > 0)
    fps1000 = gst_util_uint64_scale(1000, guint64(GST_VIDEO_INFO_FPS_N(&info)),
                                    guint64(std::max(1, GST_VIDEO_INFO_FPS_D(&info))));
  guint64 bits = guint64(GST_VIDEO_INFO_WIDTH(&info)) * guint64(GST_VIDEO_INFO_HEIGHT(&info)) *
                 fps1000 / 1000 * kBitsPerPixel1000 / 1000;
  return std::clamp(guint(bits / 1000), kMinKbps, kMaxKbps);
}

void tune_encoder(GstElement* encoder, const char* factory, const GstCaps* raw) {
  guint kbps = kbps_for(raw);
  GstVideoInfo info;
  guint fps = 30;
  if (gst_video_info_from_caps(&info, raw) && GST_VIDEO_INFO_FPS_N(&info) > 0)
    fps = std::max(1, GST_VIDEO_INFO_FPS_N(&info) / std::max(1, GST_VIDEO_INFO_FPS_D(&info)));
  std::string distance = std::to_string(fps * kKeyFrameIntervalS);
  std::string bps = std::to_string(kbps * 1000);
  if (g_str_equal(factory, "x264enc")) {
    set_text(encoder, "tune", "zerolatency");
    set_text(encoder, "speed-preset", "superfast");
    set_text(encoder, "bframes", "0");
    set_text(encoder, "byte-stream", "true");
    set_text(encoder, "key-int-max", distance.c_str());
    set_text(encoder, "bitrate", std::to_string(kbps).c_str());
    set_text(encoder, "vbv-buf-capacity", "300");
  } else if (g_str_equal(factory, "openh264enc")) {
    set_text(encoder, "complexity", "low");
    set_text(encoder, "usage-type", "camera");
    set_text(encoder, "rate-control", "bitrate");
    set_text(encoder, "gop-size", distance.c_str());
    set_text(encoder, "bitrate", bps.c_str());
  } else if (g_str_equal(factory, "vp8enc")) {
    set_text(encoder, "deadline", "1");
    set_text(encoder, "cpu-used", "8");
    set_text(encoder, "error-resilient", "partitions");
    set_text(encoder, "keyframe-max-dist", distance.c_str());
    set_text(encoder, "target-bitrate", bps.c_str());
    set_text(encoder, "end-usage", "cbr");
    set_text(encoder, "lag-in-frames", "0");
    set_text(encoder, "threads", "2");
  } else if (g_str_equal(factory, "opusenc")) {
    set_text(encoder, "inband-fec", "true");
    set_text(encoder, "packet-loss-percentage", "10");
    set_text(encoder, "frame-size", "20");
  }
}

}  // namespace

struct SendChain::State : std::enable_shared_from_this<SendChain::State> {
  State(MediaKind kind, Callbacks callbacks) : kind(kind), callbacks(std::move(callbacks)) {}

  const MediaKind kind;
  const Callbacks callbacks;
  gref<GstElement> bin;
  GstPad* sink = nullptr;  // ghost pads, owned by the bin
  GstPad* src = nullptr;
  const std::shared_ptr<Edge> edge = std::make_shared<Edge>();
  std::mutex mutex;  // guards the rest; held only to copy
  std::string mid;
  gref<GstElement> mid_extension;
  gref<GstPad> held_pad;
  gulong hold = 0;
  gref<GstPad> linked;     // webrtcbin's
  bool connected_once = false;
  // streaming thread
  gref<GstCaps> input;     // what the inside was built for
  const Codec* codec = nullptr;
  bool raw = false;
  bool reported = false;
  std::vector<GstElement*> inside;

  bool on_caps(GstCaps* caps);
  bool build(GstCaps* caps);
  void clear();
  GstElement* add(const char* factory, std::string* missing);
  void report(GstCaps* rtp);
  void report_early(GstElement* payloader);
  void learn_ssrc(GstElement* entry, GstCaps* rtp);
  void pace(GstElement* clocksync, GstPad* upstream);
};

// --- building (streaming thread) -------------------------------------------------------------

bool SendChain::State::on_caps(GstCaps* caps) {
  bool now_raw = gst_structure_has_name(gst_caps_get_structure(caps, 0), "video/x-raw") ||
                 gst_structure_has_name(gst_caps_get_structure(caps, 0), "audio/x-raw");
  const Codec* now = codec_for_caps(caps);
  bool rtp_changed = input && gst_structure_has_name(gst_caps_get_structure(input.get(), 0),
                                                     "application/x-rtp") !=
                                  gst_structure_has_name(gst_caps_get_structure(caps, 0),
                                                         "application/x-rtp");
  // The encoder and the payloader follow a change of resolution by themselves.
  if (input && now_raw == raw && (now_raw || now == codec) && !rtp_changed) {
    input = gref<GstCaps>::ref(caps);
    return true;
  }
  clear();
  raw = now_raw;
  input = gref<GstCaps>::ref(caps);
  if (build(caps)) return true;
  clear();
  input.reset();
  return false;
}

void SendChain::State::clear() {
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), nullptr);
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), nullptr);
  for (GstElement* element : inside) {
    gst_element_set_locked_state(element, TRUE);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_bin_remove(GST_BIN(bin.get()), element);
  }
  inside.clear();
  codec = nullptr;
  reported = false;
  std::lock_guard lock(mutex);
  mid_extension.reset();
}

GstElement* SendChain::State::add(const char* factory, std::string* missing) {
  GstElement* element = gst_element_factory_make(factory, nullptr);
  if (!element) {
    if (missing->empty()) *missing = factory;
    return nullptr;
  }
  gst_bin_add(GST_BIN(bin.get()), element);
  inside.push_back(element);
  return element;
}

bool SendChain::State::build(GstCaps* caps) {
  std::string missing;
  bool rtp = gst_structure_has_name(gst_caps_get_structure(caps, 0), "application/x-rtp");
  std::vector<GstElement*> line;
  auto append = [&](const char* factory) {
    GstElement* element = add(factory, &missing);
    if (element) line.push_back(element);
    return element;
  };
  if (raw) {
    const char* encoder_name = nullptr;
    for (const Codec& candidate : codecs()) {
      if (candidate.kind != kind || encoder_name) continue;
      for (const char* encoder : candidate.encoders) {
        g_autoptr(GstElementFactory) found = gst_element_factory_find(encoder);
        if (!found) continue;
        codec = &candidate;
        encoder_name = encoder;
        break;
      }
    }
    if (!encoder_name) {
      callbacks.on_error(peer_error(
          kind == MediaKind::video
              ? "No video encoder is installed. Install gstreamer1.0-plugins-ugly (x264enc) or "
                "gstreamer1.0-plugins-good (vp8enc)."
              : "No Opus encoder is installed. Install gstreamer1.0-plugins-base (opusenc)."));
      return false;
    }
    if (kind == MediaKind::video) {
      append("videoconvert");
      if (GstElement* filter = append("capsfilter")) {
        // 4:2:0 is what every receiver decodes.
        g_autoptr(GstCaps) planar = gst_caps_from_string("video/x-raw, format=(string)I420");
        g_object_set(filter, "caps", planar, nullptr);
      }
    } else {
      append("audioconvert");
      append("audioresample");
      if (GstElement* filter = append("capsfilter")) {
        g_autoptr(GstCaps) stereo = gst_caps_from_string(
            "audio/x-raw, rate=(int)48000, channels=(int)[ 1, 2 ]");
        g_object_set(filter, "caps", stereo, nullptr);
      }
    }
    GstElement* encoder = append(encoder_name);
    if (encoder) tune_encoder(encoder, encoder_name, caps);
    if (encoder && g_str_equal(codec->name, "H264")) {
      if (GstElement* filter = append("capsfilter")) {
        g_autoptr(GstCaps) profile = gst_caps_from_string(
            "video/x-h264, profile=(string)constrained-baseline");
        g_object_set(filter, "caps", profile, nullptr);
      }
    }
  } else {
    codec = codec_for_caps(caps);
    if (!codec || codec->kind != kind) {
      g_autofree char* text = gst_caps_to_string(caps);
      callbacks.on_error(peer_error(
          "Cannot publish " + std::string(text) +
          ". Supported are raw media, H.264, H.265, VP8, VP9, Opus, PCMU and PCMA."));
      return false;
    }
  }

  GstElement* payloader = nullptr;
  if (!rtp) {
    if (codec->parser) append(codec->parser);
    payloader = append(codec->payloader);
    if (payloader) {
      g_object_set(payloader, "mtu", kMtu, "pt", codec->payload_type, "ssrc", g_random_int(),
                   nullptr);
      set_text(payloader, "auto-header-extension", "false");
      set_text(payloader, "config-interval", "-1");
      set_text(payloader, "aggregate-mode", "zero-latency");
      set_text(payloader, "picture-id-mode", "15-bit");
      struct {
        const char* factory;
        guint id;
      } extensions[] = {{"rtphdrexttwcc", 3}, {"rtphdrextmid", 4}};
      for (auto& extension : extensions) {
        GstElement* made = gst_element_factory_make(extension.factory, nullptr);
        if (!made) continue;
        gst_object_ref_sink(made);
        gst_rtp_header_extension_set_id(GST_RTP_HEADER_EXTENSION(made), extension.id);
        g_signal_emit_by_name(payloader, "add-extension", made);
        if (extension.id == 4) {
          std::lock_guard lock(mutex);
          mid_extension = gref<GstElement>::ref(made);
          if (!mid.empty()) g_object_set(made, "mid", mid.c_str(), nullptr);
        }
        gst_object_unref(made);
      }
    }
  }
  GstElement* clocksync = append("clocksync");
  if (!missing.empty() || line.empty()) {
    callbacks.on_error(peer_error("The element " + missing +
                                  " is missing. Install the GStreamer good, bad and ugly plugins."));
    return false;
  }

  for (std::size_t i = 1; i < line.size(); ++i)
    if (!gst_element_link(line[i - 1], line[i])) {
      callbacks.on_error(peer_error(std::string("Cannot link ") + GST_OBJECT_NAME(line[i - 1]) +
                                    " to " + GST_OBJECT_NAME(line[i]) + "."));
      return false;
    }
  pace(clocksync, sink);
  g_autoptr(GstPad) last = gst_element_get_static_pad(line.back(), "src");
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), last);
  // From the end to the start, so that nothing flows into what is not ready.
  for (auto element = line.rbegin(); element != line.rend(); ++element)
    gst_element_sync_state_with_parent(*element);
  g_autoptr(GstPad) first = gst_element_get_static_pad(line.front(), "sink");
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), first);
  if (rtp) {
    guint ssrc = 0;
    if (gst_structure_get_uint(gst_caps_get_structure(caps, 0), "ssrc", &ssrc)) report(caps);
    else learn_ssrc(line.front(), caps);
  } else if (raw || !g_str_has_prefix(codec->name, "H26")) {
    report_early(payloader);
  }
  return true;
}

// Media that is not live is paced by the clock, and held until somebody can see it: a file starts
// with its beginning. Live media flows, and is dropped while nobody is connected.
void SendChain::State::pace(GstElement* clocksync, GstPad* upstream) {
  g_autoptr(GstQuery) query = gst_query_new_latency();
  gboolean live = TRUE;
  if (gst_pad_peer_query(upstream, query)) gst_query_parse_latency(query, &live, nullptr, nullptr);
  g_object_set(clocksync, "sync", !live, nullptr);
  std::lock_guard lock(mutex);
  if (live || connected_once || hold) return;
  held_pad = gref<GstPad>::adopt(gst_element_get_static_pad(clocksync, "sink"));
  hold = gst_pad_add_probe(
      held_pad.get(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER |
                      GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo*, gpointer) { return GST_PAD_PROBE_OK; }, nullptr, nullptr);
}

// --- telling what will be sent ---------------------------------------------------------------

void SendChain::State::report(GstCaps* rtp) {
  if (reported) return;
  reported = true;
  GstCaps* copy = gst_caps_copy(rtp);
  GstStructure* structure = gst_caps_get_structure(copy, 0);
  gst_structure_remove_fields(structure, "timestamp-offset", "seqnum-offset", "seqnum-base",
                              "clock-base", "sprop-parameter-sets", "sprop-vps", "sprop-sps",
                              "sprop-pps", nullptr);
  if (!gst_structure_has_field(structure, "encoding-name"))
    gst_structure_set(structure, "encoding-name", G_TYPE_STRING, codec->name, nullptr);
  if (!gst_structure_has_field(structure, "clock-rate"))
    gst_structure_set(structure, "clock-rate", G_TYPE_INT, codec->clock_rate, nullptr);
  gst_structure_set(structure, "media", G_TYPE_STRING,
                    kind == MediaKind::video ? "video" : "audio", nullptr);
  callbacks.on_caps(gref<GstCaps>::adopt(copy));
}

// Before the first packet, so that negotiation runs while the encoder starts.
void SendChain::State::report_early(GstElement* payloader) {
  guint ssrc = 0;
  g_object_get(payloader, "ssrc", &ssrc, nullptr);
  g_autoptr(GstCaps) caps = gst_caps_new_simple(
      "application/x-rtp", "media", G_TYPE_STRING, kind == MediaKind::video ? "video" : "audio",
      "encoding-name", G_TYPE_STRING, codec->name, "clock-rate", G_TYPE_INT, codec->clock_rate,
      "payload", G_TYPE_INT, codec->payload_type, "ssrc", G_TYPE_UINT, ssrc, nullptr);
  if (g_str_equal(codec->name, "H264"))
    gst_caps_set_simple(caps, "packetization-mode", G_TYPE_STRING, "1", "profile-level-id",
                        G_TYPE_STRING, "42e01f", "level-asymmetry-allowed", G_TYPE_STRING, "1",
                        nullptr);
  if (g_str_equal(codec->name, "OPUS"))
    gst_caps_set_simple(caps, "encoding-params", G_TYPE_STRING, "2", "minptime", G_TYPE_STRING,
                        "10", "useinbandfec", G_TYPE_STRING, "1", nullptr);
  report(caps);
}

void SendChain::State::learn_ssrc(GstElement* entry, GstCaps* rtp) {
  struct Learn {
    std::weak_ptr<State> state;
    gref<GstCaps> caps;
  };
  g_autoptr(GstPad) pad = gst_element_get_static_pad(entry, "sink");
  gst_pad_add_probe(
      pad, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        auto* learn = static_cast<Learn*>(data);
        GstBuffer* buffer = info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST
                                ? gst_buffer_list_get(GST_PAD_PROBE_INFO_BUFFER_LIST(info), 0)
                                : GST_PAD_PROBE_INFO_BUFFER(info);
        guint8 header[12];
        if (!buffer || gst_buffer_extract(buffer, 0, header, 12) != 12) return GST_PAD_PROBE_OK;
        g_autoptr(GstCaps) caps = gst_caps_copy(learn->caps.get());
        gst_caps_set_simple(caps, "ssrc", G_TYPE_UINT, GST_READ_UINT32_BE(header + 8), nullptr);
        if (!gst_structure_has_field(gst_caps_get_structure(caps, 0), "payload"))
          gst_caps_set_simple(caps, "payload", G_TYPE_INT, header[1] & 0x7f, nullptr);
        if (auto state = learn->state.lock()) state->report(caps);
        return GST_PAD_PROBE_REMOVE;
      },
      new Learn{weak_from_this(), gref<GstCaps>::ref(rtp)},
      [](gpointer data) { delete static_cast<Learn*>(data); });
}

// --- the chain -------------------------------------------------------------------------------

SendChain::SendChain(MediaKind kind, const char* name, Callbacks callbacks)
    : state_(std::make_shared<State>(kind, std::move(callbacks))) {
  static gsize once = 0;
  if (g_once_init_enter(&once)) {
    GST_DEBUG_CATEGORY_INIT(cf_realtime_media_debug, "cfrealtime", 0, "Cloudflare Realtime");
    g_once_init_leave(&once, 1);
  }
  State& s = *state_;
  s.bin = gref<GstElement>::ref(gst_bin_new(name));  // stays floating for gst_bin_add
  gref<GstCaps> caps = sendable_caps(kind);
  g_autoptr(GstPadTemplate) templ =
      gst_pad_template_new("sink", GST_PAD_SINK, GST_PAD_ALWAYS, caps.get());
  gst_object_ref_sink(templ);
  s.sink = gst_ghost_pad_new_no_target_from_template("sink", templ);
  s.src = gst_ghost_pad_new_no_target("src", GST_PAD_SRC);
  std::weak_ptr<State> weak = state_;
  gst_pad_add_probe(
      s.sink, GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM,
      [](GstPad* pad, GstPadProbeInfo* info, gpointer data) {
        auto state = static_cast<std::weak_ptr<State>*>(data)->lock();
        if (!state) return GST_PAD_PROBE_OK;
        GstEvent* event = GST_PAD_PROBE_INFO_EVENT(info);
        if (GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
          GstCaps* caps = nullptr;
          gst_event_parse_caps(event, &caps);
          if (!state->on_caps(caps)) return GST_PAD_PROBE_DROP;  // data: not negotiated
        } else if (GST_EVENT_TYPE(event) == GST_EVENT_EOS && !state->input) {
          state->callbacks.on_eos();  // ended before it began
        }
        return GST_PAD_PROBE_OK;
      },
      new std::weak_ptr<State>(weak),
      [](gpointer data) { delete static_cast<std::weak_ptr<State>*>(data); });
  s.edge->on_first_packet = [weak] {
    if (auto state = weak.lock()) state->callbacks.on_first_packet();
  };
  s.edge->on_eos = [weak] {
    if (auto state = weak.lock()) state->callbacks.on_eos();
  };
  s.edge->on_event = [weak](GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_CAPS) return;
    GstCaps* caps = nullptr;
    gst_event_parse_caps(event, &caps);
    auto state = weak.lock();
    if (state && gst_structure_has_field(gst_caps_get_structure(caps, 0), "ssrc"))
      state->report(caps);
  };
  install_edge(s.src, s.edge);
  gst_element_add_pad(s.bin.get(), s.sink);
  gst_element_add_pad(s.bin.get(), s.src);
}

SendChain::~SendChain() { disconnect(); }

GstElement* SendChain::bin() const { return state_->bin.get(); }

uint64_t SendChain::packets() const { return state_->edge->passed; }

void SendChain::set_mid(const std::string& mid) {
  std::lock_guard lock(state_->mutex);
  state_->mid = mid;
  if (state_->mid_extension)
    g_object_set(state_->mid_extension.get(), "mid", mid.c_str(), nullptr);
}

void SendChain::rearm() {
  State& s = *state_;
  s.clear();
  s.input.reset();
  std::lock_guard lock(s.mutex);
  s.connected_once = false;
  s.held_pad.reset();
  s.hold = 0;
}

bool SendChain::connect(GstPad* webrtc_sink) {
  State& s = *state_;
  disconnect();
  if (gst_pad_link(s.src, webrtc_sink) != GST_PAD_LINK_OK) return false;
  gref<GstPad> held;
  gulong hold = 0;
  {
    std::lock_guard lock(s.mutex);
    s.linked = gref<GstPad>::ref(webrtc_sink);
    s.connected_once = true;
    held = std::move(s.held_pad);
    s.held_pad.reset();
    hold = std::exchange(s.hold, 0);
  }
  s.edge->fresh = true;
  s.edge->open = true;
  GstPad* inner = GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(s.src)));
  gst_pad_push_event(inner,
                     gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
  gst_object_unref(inner);
  if (held && hold) gst_pad_remove_probe(held.get(), hold);
  return true;
}

void SendChain::disconnect() {
  State& s = *state_;
  s.edge->open = false;
  gref<GstPad> linked;
  {
    std::lock_guard lock(s.mutex);
    linked = std::move(s.linked);
    s.linked.reset();
  }
  if (linked) gst_pad_unlink(s.src, linked.get());
}

}  // namespace cfr
