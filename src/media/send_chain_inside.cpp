// What is inside a SendChain: built on the streaming thread, at the caps event.
#include <gst/rtp/rtp.h>

#include <algorithm>

#include "media/encoders.h"
#include "media/send_chain_state.h"

GST_DEBUG_CATEGORY_EXTERN(cf_realtime_media_debug);
#define GST_CAT_DEFAULT cf_realtime_media_debug

namespace cfr {

namespace {

constexpr guint kPacketSize = 1200;    // bytes of RTP; leaves room for SRTP and TURN
constexpr guint kExtensionsSize = 16;  // payloaders do not count them: TWCC, a MID of 8

Error peer_error(std::string message) {
  Error error;
  error.kind = ErrorKind::peer;
  error.message = std::move(message);
  return error;
}

std::string text_of(const GstCaps* caps) {
  g_autofree char* text = gst_caps_to_string(caps);
  return text;
}

SendShape shape_of(const GstCaps* caps) {
  const GstStructure* structure = gst_caps_get_structure(caps, 0);
  SendShape shape;
  shape.raw = gst_structure_has_name(structure, "video/x-raw") ||
              gst_structure_has_name(structure, "audio/x-raw");
  shape.rtp = gst_structure_has_name(structure, "application/x-rtp");
  if (const char* mode = gst_structure_get_string(structure, "interlace-mode"))
    shape.interlaced = shape.raw && !g_str_equal(mode, "progressive");
  if (!shape.raw) shape.codec = codec_for_caps(caps);
  if (const char* alignment = gst_structure_get_string(structure, "alignment"))
    shape.nals = !shape.raw && !shape.rtp && g_str_equal(alignment, "nal");
  return shape;
}

bool can_send(MediaKind kind, const GstCaps* caps) {
  int channels = 1;
  const GstStructure* structure = gst_caps_get_structure(caps, 0);
  gst_structure_get_int(structure, "channels", &channels);
  const bool raw = gst_structure_has_name(structure, "audio/x-raw");  // is mixed down
  return gst_caps_can_intersect(sendable_caps(kind).get(), caps) && (raw || channels <= 2);
}

GstElement* make_extension(const char* factory, guint id) {
  GstElement* extension = gst_element_factory_make(factory, nullptr);
  if (!extension) return nullptr;
  gst_object_ref_sink(extension);
  gst_rtp_header_extension_set_id(GST_RTP_HEADER_EXTENSION(extension), id);
  return extension;
}

}  // namespace

// --- building (streaming thread) -------------------------------------------------------------

// Makes the inside fit the caps and returns those to pass on; null if they cannot be used.
gref<GstCaps> SendChain::State::on_caps(GstCaps* caps) {
  // A refused caps event comes again with the next buffer.
  if (refused && gst_caps_is_equal(refused.get(), caps)) return {};
  refused.reset();
  SendShape now = shape_of(caps);
  if (!built || ended || now != shape) {
    clear();
    shape = now;
    ended = false;
    GST_DEBUG_OBJECT(bin.get(), "building for %" GST_PTR_FORMAT, caps);
    built = build(caps);
    if (!built) {
      clear();
      refused = gref<GstCaps>::ref(caps);
      return {};
    }
    if (shape.raw || !(shape.rtp || g_str_has_prefix(codec->name, "H26"))) report_early(caps);
  } else if (encoder) {
    adapt_encoder(encoder, encoder_factory, caps);
  }
  return rtp_input ? rtp_input->set_caps(*codec, caps) : gref<GstCaps>::ref(caps);
}

void SendChain::State::clear() {
  release();
  if (inspection) gst_pad_remove_probe(sink, std::exchange(inspection, 0));
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), nullptr);
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), nullptr);
  for (GstElement* element : inside) {
    gst_element_set_locked_state(element, TRUE);
    gst_element_set_state(element, GST_STATE_NULL);
    gst_bin_remove(GST_BIN(bin.get()), element);
  }
  inside.clear();
  missing.clear();
  encoder = clocksync = nullptr;
  anchoring = 0;
  flushed_at = GST_CLOCK_TIME_NONE;
  built = false;
  codec = nullptr;
  reported = false;
  edge->rewrite = nullptr;
  std::lock_guard lock(mutex);
  mid_extension.reset();
  rtp_input.reset();
}

GstElement* SendChain::State::append(const char* factory) {
  GstElement* element = gst_element_factory_make(factory, nullptr);
  if (!element) {
    if (missing.empty()) missing = factory;
    return nullptr;
  }
  // A bin that just changes its state takes along what is added, before it has its properties.
  gst_element_set_locked_state(element, TRUE);
  gst_bin_add(GST_BIN(bin.get()), element);
  inside.push_back(element);
  return element;
}

bool SendChain::State::append_encoder(GstCaps* caps) {
  Encoder chosen = choose_encoder(kind);
  if (!chosen.codec) {
    callbacks.on_error(peer_error(
        kind == MediaKind::video
            ? "No video encoder is installed. Install gstreamer1.0-plugins-ugly (x264enc) or "
              "gstreamer1.0-plugins-good (vp8enc)."
            : "No Opus encoder is installed. Install gstreamer1.0-plugins-base (opusenc)."));
    return false;
  }
  codec = chosen.codec;
  auto filter = [this](const char* text) {
    if (GstElement* element = append("capsfilter")) {
      g_autoptr(GstCaps) wanted = gst_caps_from_string(text);
      g_object_set(element, "caps", wanted, nullptr);
    }
  };
  if (kind == MediaKind::video) {
    if (shape.interlaced) append("deinterlace");
    append("videoconvert");
    append("videoscale");
    // 4:2:0 is what every receiver decodes; it has even sizes.
    filter(
        "video/x-raw, format=(string)I420, width=(int)[ 16, 16384, 2 ], "
        "height=(int)[ 16, 16384, 2 ]");
  } else {
    append("audioconvert");
    append("audioresample");
    filter("audio/x-raw, rate=(int)48000, channels=(int)[ 1, 2 ]");
  }
  encoder = append(chosen.factory);
  encoder_factory = chosen.factory;
  if (encoder) tune_encoder(encoder, encoder_factory, caps);
  if (g_str_equal(codec->name, "H264"))
    filter("video/x-h264, profile=(string)constrained-baseline");
  return true;
}

void SendChain::State::append_payloader() {
  GstElement* payloader = append(codec->payloader);
  if (!payloader) return;
  g_object_set(payloader, "mtu", kPacketSize - kExtensionsSize, "pt", codec->payload_type, "ssrc",
               std::max(g_random_int(), 1u), nullptr);
  set_if_present(payloader, "auto-header-extension", "false");
  set_if_present(payloader, "config-interval", "-1");
  set_if_present(payloader, "aggregate-mode", "zero-latency");
  set_if_present(payloader, "picture-id-mode", "15-bit");
  if (GstElement* twcc = make_extension("rtphdrexttwcc", extension_id::twcc)) {
    g_signal_emit_by_name(payloader, "add-extension", twcc);
    gst_object_unref(twcc);
  }
  if (GstElement* made = make_extension("rtphdrextmid", extension_id::mid)) {
    std::string known;
    {
      std::lock_guard lock(mutex);
      mid_extension = gref<GstElement>::ref(made);
      known = mid;
    }
    if (!known.empty()) g_object_set(made, "mid", known.c_str(), nullptr);
    g_signal_emit_by_name(payloader, "add-extension", made);
    gst_object_unref(made);
  }
}

bool SendChain::State::build(GstCaps* caps) {
  codec = shape.codec;
  const bool video = kind == MediaKind::video;
  if (!can_send(kind, caps) || (!shape.raw && (!codec || codec->kind != kind))) {
    const bool other = shape.raw ? can_send(video ? MediaKind::audio : MediaKind::video, caps)
                                 : codec && codec->kind != kind;
    std::string message =
        "Cannot publish " + text_of(caps) + (video ? " as video. " : " as audio. ");
    if (other)
      message += video ? "Link it to a pad audio_%u." : "Link it to a pad video_%u.";
    else
      message +=
          "Supported are raw media, H.264, H.265, VP8, VP9, Opus (up to two channels), PCMU and "
          "PCMA.";
    callbacks.on_error(peer_error(message));
    return false;
  }
  if (shape.raw && !append_encoder(caps)) return false;
  if (!shape.rtp) {
    if (codec->parser) append(codec->parser);
    // As avc, what h264parse 1.22 makes of single NAL units sends rtph264pay into an endless loop.
    if (shape.nals) {
      GstElement* filter = append("capsfilter");
      g_autoptr(GstCaps) wanted = gst_caps_from_string(codec->encoded_caps);
      gst_caps_set_simple(wanted, "stream-format", G_TYPE_STRING, "byte-stream", nullptr);
      if (filter) g_object_set(filter, "caps", wanted, nullptr);
    }
    append_payloader();
  }
  clocksync = append("clocksync");
  if (!missing.empty()) {
    callbacks.on_error(
        peer_error("The element " + missing + " is missing. Install " + package_of(missing) + "."));
    return false;
  }
  return link_inside();
}

bool SendChain::State::link_inside() {
  for (std::size_t i = 1; i < inside.size(); ++i)
    if (!gst_element_link(inside[i - 1], inside[i])) {
      callbacks.on_error(peer_error(std::string("Cannot link ") + GST_OBJECT_NAME(inside[i - 1]) +
                                    " to " + GST_OBJECT_NAME(inside[i]) + "."));
      return false;
    }
  pace();
  g_autoptr(GstPad) last = gst_element_get_static_pad(inside.back(), "src");
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), last);
  // From the end to the start, so that nothing flows into what is not ready.
  for (auto element = inside.rbegin(); element != inside.rend(); ++element) {
    gst_element_set_locked_state(*element, FALSE);
    if (!gst_element_sync_state_with_parent(*element)) {
      callbacks.on_error(peer_error(std::string(GST_OBJECT_NAME(*element)) + " does not start."));
      return false;
    }
  }
  g_autoptr(GstPad) first = gst_element_get_static_pad(inside.front(), "sink");
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), first);
  if (shape.rtp) follow_rtp();
  if (kind == MediaKind::video && framed()) time_pictures();
  return true;
}

// --- pace ------------------------------------------------------------------------------------

// Media that is not live is paced by the clock, and held until somebody can see it: a file starts
// with its beginning. Live media flows, and is dropped while nobody is connected.
void SendChain::State::pace() {
  g_autoptr(GstQuery) query = gst_query_new_latency();
  gboolean live = TRUE;
  if (gst_pad_peer_query(sink, query)) gst_query_parse_latency(query, &live, nullptr, nullptr);
  g_object_set(clocksync, "sync", !live, nullptr);
  paced = !live;
  if (live) return;
  watch_pace();
  std::lock_guard lock(mutex);
  if (connected_once || hold) return;
  held_pad = gref<GstPad>::adopt(gst_element_get_static_pad(clocksync, "sink"));
  hold = gst_pad_add_probe(
      held_pad.get(),
      GstPadProbeType(GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER |
                      GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo*, gpointer) { return GST_PAD_PROBE_OK; }, nullptr, nullptr);
}

void SendChain::State::watch_pace() {
  anchored_base = GST_CLOCK_TIME_NONE;
  if (anchoring) return;
  g_autoptr(GstPad) entry = gst_element_get_static_pad(clocksync, "sink");
  // Runs when a packet is let go.
  anchoring = gst_pad_add_probe(
      entry, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad* pad, GstPadProbeInfo* info, gpointer data) {
        auto state = Weak<State>::lock(data);
        return state ? state->anchor(pad, info) : GST_PAD_PROBE_REMOVE;
      },
      Weak<State>::make(shared_from_this()), Weak<State>::free);
}

// The first packet decides by how much the track lags. After a flush the pipeline may set its base
// time anew, as it does when it has other sinks: only then is the lag what it will be.
GstPadProbeReturn SendChain::State::anchor(GstPad* pad, GstPadProbeInfo* info) {
  GstClockTime base_time = gst_element_get_base_time(clocksync);
  bool restarted = base_time >= flushed_at;  // never without a flush
  if (anchored_base != GST_CLOCK_TIME_NONE && (base_time == anchored_base || !restarted))
    return GST_PAD_PROBE_OK;
  GstBuffer* buffer = info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST
                          ? gst_buffer_list_get(GST_PAD_PROBE_INFO_BUFFER_LIST(info), 0)
                          : GST_PAD_PROBE_INFO_BUFFER(info);
  g_autoptr(GstEvent) event = gst_pad_get_sticky_event(pad, GST_EVENT_SEGMENT, 0);
  g_autoptr(GstClock) clock = gst_element_get_clock(clocksync);
  if (!event || !clock) return GST_PAD_PROBE_OK;
  const GstSegment* segment = nullptr;
  gst_event_parse_segment(event, &segment);
  GstClockTime running_time =
      gst_segment_to_running_time(segment, GST_FORMAT_TIME, GST_BUFFER_DTS_OR_PTS(buffer));
  if (!GST_CLOCK_TIME_IS_VALID(running_time)) return GST_PAD_PROBE_OK;
  int64_t lag = GST_CLOCK_DIFF(base_time + running_time, gst_clock_get_time(clock));
  g_object_set(clocksync, "ts-offset", timeline->offset_ns(epoch, base_time, lag), nullptr);
  anchored_base = base_time;
  if (flushed_at != GST_CLOCK_TIME_NONE && !restarted) return GST_PAD_PROBE_OK;
  flushed_at = GST_CLOCK_TIME_NONE;
  anchoring = 0;
  return GST_PAD_PROBE_REMOVE;
}

// A flush has set the running time back, in a pipeline that may not do so with its clock.
void SendChain::State::begin_anew(guint32 seqnum) {
  if (!clocksync || !paced) return;
  g_autoptr(GstClock) clock = gst_element_get_clock(clocksync);
  if (!clock) return;
  epoch = seqnum;
  flushed_at = gst_clock_get_time(clock);
  watch_pace();
}

int64_t Timeline::offset_ns(guint32 epoch, GstClockTime base_time, int64_t lag_ns) {
  std::lock_guard lock(mutex_);
  if (offset_ns_ < 0 || epoch != epoch_ || base_time != base_time_) {
    epoch_ = epoch;
    base_time_ = base_time;
    offset_ns_ = std::max<int64_t>(lag_ns, 0);
  }
  return offset_ns_;
}

void Timeline::forget() {
  std::lock_guard lock(mutex_);
  offset_ns_ = -1;
}

// Lets go what is held.
void SendChain::State::release() {
  gref<GstPad> pad;
  gulong id = 0;
  {
    std::lock_guard lock(mutex);
    pad = std::move(held_pad);
    held_pad.reset();
    id = std::exchange(hold, 0);
  }
  if (pad && id) gst_pad_remove_probe(pad.get(), id);
}

// --- telling what will be sent ---------------------------------------------------------------

void SendChain::State::report(GstCaps* rtp) {
  if (std::exchange(reported, true)) return;
  GstCaps* copy = gst_caps_copy(rtp);
  GstStructure* structure = gst_caps_get_structure(copy, 0);
  gst_structure_remove_fields(structure, "timestamp-offset", "seqnum-offset", "seqnum-base",
                              "clock-base", "sprop-parameter-sets", "sprop-vps", "sprop-sps",
                              "sprop-pps", nullptr);
  GST_DEBUG_OBJECT(bin.get(), "will send %" GST_PTR_FORMAT, copy);
  announce(gref<GstCaps>::adopt(copy));
}

void SendChain::State::announce(gref<GstCaps> caps) {
  announced = caps;
  callbacks.on_caps(std::move(caps));
}

// A seek back from the end: what comes is a new track, of the caps that upstream does not repeat.
void SendChain::State::begin_after_end() {
  if (!std::exchange(ended, false) || !announced) return;
  announce(announced);
}

// Before the first packet, so that negotiation runs while the encoder starts.
void SendChain::State::report_early(GstCaps* input) {
  const GstStructure* from = gst_caps_get_structure(input, 0);
  guint ssrc = 0;
  GstElement* payloader = inside[inside.size() - 2];
  g_object_get(payloader, "ssrc", &ssrc, nullptr);
  g_autoptr(GstCaps) caps = gst_caps_new_simple(
      "application/x-rtp", "media", G_TYPE_STRING, kind == MediaKind::video ? "video" : "audio",
      "encoding-name", G_TYPE_STRING, codec->name, "clock-rate", G_TYPE_INT, codec->clock_rate,
      "payload", G_TYPE_INT, codec->payload_type, "ssrc", G_TYPE_UINT, ssrc, nullptr);
  auto set = [&caps](const char* field, const char* value) {
    gst_caps_set_simple(caps, field, G_TYPE_STRING, value, nullptr);
  };
  if (g_str_equal(codec->name, "H264")) {
    set("packetization-mode", "1");
    set("profile-level-id", "42e01f");
    set("level-asymmetry-allowed", "1");
  } else if (g_str_equal(codec->name, "VP9")) {
    if (const char* profile = gst_structure_get_string(from, "profile")) set("profile-id", profile);
  } else if (g_str_equal(codec->name, "OPUS")) {  // RFC 7587
    int channels = 1;
    gst_structure_get_int(from, "channels", &channels);
    set("encoding-params", "2");
    set("minptime", "10");
    set("useinbandfec", "1");
    if (channels > 1) {
      set("stereo", "1");
      set("sprop-stereo", "1");
    }
  }
  report(caps);
}

void SendChain::State::follow_rtp() {
  // The chain lives as long as the callback: RtpInput is a member of it.
  auto input = std::make_shared<RtpInput>([this](gref<GstCaps> caps) {
    GST_DEBUG_OBJECT(bin.get(), "will send %" GST_PTR_FORMAT, caps.get());
    announce(std::move(caps));
  });
  std::string known;
  {
    std::lock_guard lock(mutex);
    rtp_input = input;
    known = mid;
  }
  input->set_mid(known);
  edge->rewrite = [input](GstBuffer* packet) { return input->rewrite(packet); };
  // Here rather than behind: what is held has to be looked at too.
  inspection = gst_pad_add_probe(
      sink, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        auto state = Weak<State>::lock(data);
        if (!state || !state->rtp_input) return GST_PAD_PROBE_OK;
        if (info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
          GstBufferList* list = GST_PAD_PROBE_INFO_BUFFER_LIST(info);
          for (guint i = 0; i < gst_buffer_list_length(list); ++i)
            state->rtp_input->inspect(gst_buffer_list_get(list, i));
        } else {
          state->rtp_input->inspect(GST_PAD_PROBE_INFO_BUFFER(info));
        }
        return GST_PAD_PROBE_OK;
      },
      Weak<State>::make(shared_from_this()), Weak<State>::free);
}

// --- input without times (of appsrc as it is, say) ---------------------------------------------

// A buffer is a picture or whole samples, not a piece of a byte stream, of which parsers make
// times.
bool SendChain::State::framed() const {
  return !shape.rtp && (shape.raw || !shape.codec->parser);
}

// Encoders and payloaders take no segment that counts bytes.
GstEvent* SendChain::State::in_time(GstEvent* event) {
  const GstSegment* told;
  gst_event_parse_segment(event, &told);
  if (told->format == GST_FORMAT_TIME || !built || !framed()) return event;
  GstSegment segment;
  gst_segment_init(&segment, GST_FORMAT_TIME);
  GstEvent* own = gst_event_new_segment(&segment);
  gst_event_set_seqnum(own, gst_event_get_seqnum(event));
  gst_event_unref(event);
  return own;
}

// A picture without a time is shown as it comes.
void SendChain::State::time_pictures() {
  inspection = gst_pad_add_probe(
      sink, GST_PAD_PROBE_TYPE_BUFFER,
      [](GstPad* pad, GstPadProbeInfo* info, gpointer data) {
        GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
        if (GST_BUFFER_PTS_IS_VALID(buffer)) return GST_PAD_PROBE_OK;
        auto state = Weak<State>::lock(data);
        if (!state) return GST_PAD_PROBE_OK;
        GstClockTime time = gst_element_get_current_running_time(state->bin.get());
        g_autoptr(GstEvent) event = gst_pad_get_sticky_event(pad, GST_EVENT_SEGMENT, 0);
        const GstSegment* segment = nullptr;
        if (event) gst_event_parse_segment(event, &segment);
        if (segment && segment->format == GST_FORMAT_TIME)
          time = gst_segment_position_from_running_time(segment, GST_FORMAT_TIME, time);
        buffer = gst_buffer_make_writable(buffer);
        GST_BUFFER_PTS(buffer) = time;
        GST_PAD_PROBE_INFO_DATA(info) = buffer;
        return GST_PAD_PROBE_OK;
      },
      Weak<State>::make(shared_from_this()), Weak<State>::free);
}

}  // namespace cfr
