#include "media/receive_chain.h"

#include <gst/rtp/rtp.h>
#include <gst/video/video.h>

#include <algorithm>
#include <mutex>

#include "media/chain_bin.h"
#include "media/decoders.h"
#include "media/edge.h"
#include "media/weak.h"
#include "media/whole_pictures.h"

GST_DEBUG_CATEGORY_STATIC(cf_realtime_receive_debug);
#define GST_CAT_DEFAULT cf_realtime_receive_debug

namespace cfr {

namespace {

constexpr gint64 kAskAgainUs =
    G_USEC_PER_SEC;  // SFUs limit key frame requests to about one a second
constexpr GstClockTime kGapMargin = 500 * GST_MSECOND;
constexpr int kHopelessErrors = 50;  // of a decoder that has not shown anything yet

Error peer_error(std::string message) {
  Error error;
  error.kind = ErrorKind::peer;
  error.message = std::move(message);
  return error;
}

bool accepts(const GstCaps* downstream, const char* caps) {
  g_autoptr(GstCaps) wanted = gst_caps_from_string(caps);
  return gst_caps_can_intersect(downstream, wanted);
}

}  // namespace

struct ReceiveChain::State : std::enable_shared_from_this<ReceiveChain::State> {
  explicit State(const Codec& codec) : codec(codec), video(codec.kind == MediaKind::video) {}
  ~State() {
    if (tags) gst_tag_list_unref(tags);
  }

  const Codec& codec;
  const bool video;
  gref<GstElement> bin;
  GstPad* sink = nullptr;  // ghost pads, owned by the bin
  GstPad* src = nullptr;
  // `asking`: no picture yet, or damaged: nothing but a key frame is let through
  const std::shared_ptr<Edge> edge = std::make_shared<Edge>();
  std::function<void(Error)> on_error;
  std::mutex building;  // configure, unconfigure and end; never on streaming threads
  std::mutex mutex;     // guards the next ones; held only to copy
  gref<GstPad> linked;
  std::string stream_id;
  guint group = gst_util_group_id_next();
  GstTagList* tags = nullptr;
  gboolean live = TRUE;  // latency of webrtcbin, as last heard
  GstClockTime min_latency = 0, max_latency = GST_CLOCK_TIME_NONE;
  // under `building`
  std::vector<GstElement*> inside;
  Output output = Output::raw;

  std::atomic<bool> flowed{false};  // something has come out since the inside was built
  std::atomic<bool> complained{false};
  std::atomic<int> errors{0};
  std::atomic<bool> filling{false};  // a gap
  uint64_t gap_seen = 0;  // packets when the silence began; with gap_end, by fill_gap alone
  GstClockTime gap_end = 0;
  // Positions in the segment: of what has come out last, and the end of the last gap.
  std::atomic<GstClockTime> out_position{0}, out_floor{0};
  std::atomic<gint64> asked_us{0};
  std::atomic<guint32> wish{0};             // seqnum of the last request from downstream
  std::unique_ptr<WholePictures> pictures;  // with the depayloader's stream lock

  bool build(std::string* problem);
  void clear();
  void watch_output();
  void on_output(GstPadProbeInfo* info);
  void watch_packets(GstElement* depayloader);
  void on_packet(GstBuffer* packet);
  void watch_depayloader(GstElement* depayloader);
  GstPadProbeReturn on_picture(GstBuffer* picture);
  void ask_key_frame();
  void ask_again();
  bool put_off(GstEvent* event);
  void complain(std::string message);
  void send_gap();
  void had_enough();
  bool keep_message(GstMessage* message);
  GstEvent* own_stream_start(GstEvent* event);
  GstEvent* with_tags(GstEvent* event);
  GstEvent* later_gap(GstEvent* event);
  GstEvent* on_output_event(GstEvent* event);
  gboolean on_upstream_event(GstPad* pad, GstObject* parent, GstEvent* event);
  gboolean on_upstream_query(GstPad* pad, GstObject* parent, GstQuery* query);
};

ReceiveChain::ReceiveChain(const Codec& codec, const char* name)
    : state_(std::make_shared<State>(codec)) {
  static gsize once = 0;
  if (g_once_init_enter(&once)) {
    GST_DEBUG_CATEGORY_INIT(cf_realtime_receive_debug, "cfrealtime", 0, "Cloudflare Realtime");
    g_once_init_leave(&once, 1);
  }
  State& s = *state_;
  std::weak_ptr<State> weak = state_;
  // Stays floating for gst_bin_add.
  s.bin = gref<GstElement>::ref(make_chain_bin(name, [weak](GstMessage* message) {
    auto state = weak.lock();
    return !state || state->keep_message(message);
  }));
  s.sink = gst_ghost_pad_new_no_target("sink", GST_PAD_SINK);
  gref<GstCaps> caps = receivable_caps(codec.kind, &codec);
  g_autoptr(GstPadTemplate) templ =
      gst_pad_template_new("src", GST_PAD_SRC, GST_PAD_ALWAYS, caps.get());
  gst_object_ref_sink(templ);
  s.src = gst_ghost_pad_new_no_target_from_template("src", templ);
  s.edge->on_packet = [weak] {
    if (auto state = weak.lock()) state->ask_again();
  };
  s.edge->on_flow = [weak](GstFlowReturn flow) {
    auto state = weak.lock();
    if (!state || flow == GST_FLOW_OK) return;
    GST_INFO_OBJECT(state->bin.get(), "downstream returns %s", gst_flow_get_name(flow));
    if (flow == GST_FLOW_EOS) state->had_enough();
    if (flow == GST_FLOW_NOT_NEGOTIATED)
      state->complain(std::string("What comes next cannot take this ") + state->codec.name +
                      " track as it is; a converter may be missing.");
  };
  install_edge(s.sink, s.edge);

  // What goes up to webrtcbin.
  GstPad* inner = GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(s.sink)));
  gst_pad_set_event_function_full(
      inner,
      [](GstPad* pad, GstObject* parent, GstEvent* event) -> gboolean {
        auto state = Weak<State>::lock(pad->eventdata);
        return state ? state->on_upstream_event(pad, parent, event)
                     : gst_pad_event_default(pad, parent, event);
      },
      Weak<State>::make(state_), Weak<State>::free);
  gst_pad_set_query_function_full(
      inner,
      [](GstPad* pad, GstObject* parent, GstQuery* query) -> gboolean {
        auto state = Weak<State>::lock(pad->querydata);
        return state ? state->on_upstream_query(pad, parent, query)
                     : gst_pad_query_default(pad, parent, query);
      },
      Weak<State>::make(state_), Weak<State>::free);
  gst_object_unref(inner);

  // What goes out, and what downstream wishes.
  inner = GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(s.src)));
  gst_pad_set_event_function_full(
      inner,
      [](GstPad* pad, GstObject* parent, GstEvent* event) -> gboolean {
        if (auto state = Weak<State>::lock(pad->eventdata)) event = state->on_output_event(event);
        return event ? gst_pad_event_default(pad, parent, event) : TRUE;
      },
      Weak<State>::make(state_), Weak<State>::free);
  gst_object_unref(inner);
  gst_pad_set_event_function_full(
      s.src,
      [](GstPad* pad, GstObject* parent, GstEvent* event) -> gboolean {
        auto state = Weak<State>::lock(pad->eventdata);
        if (state && gst_video_event_is_force_key_unit(event)) {
          if (state->put_off(event)) return gst_event_unref(event), TRUE;
          state->wish = gst_event_get_seqnum(event);
        }
        return gst_pad_event_default(pad, parent, event);
      },
      Weak<State>::make(state_), Weak<State>::free);
  // Not linked, it can still become anything.
  gst_pad_set_query_function_full(
      s.src,
      [](GstPad* pad, GstObject* parent, GstQuery* query) -> gboolean {
        auto state = Weak<State>::lock(pad->querydata);
        if (!state || GST_QUERY_TYPE(query) != GST_QUERY_CAPS || state->edge->open)
          return gst_pad_query_default(pad, parent, query);
        GstCaps* filter = nullptr;
        gst_query_parse_caps(query, &filter);
        gref<GstCaps> caps = receivable_caps(state->codec.kind, &state->codec);
        if (filter)
          caps = gref<GstCaps>::adopt(
              gst_caps_intersect_full(filter, caps.get(), GST_CAPS_INTERSECT_FIRST));
        gst_query_set_caps_result(query, caps.get());
        return TRUE;
      },
      Weak<State>::make(state_), Weak<State>::free);
  gst_element_add_pad(s.bin.get(), s.sink);
  gst_element_add_pad(s.bin.get(), s.src);
}

ReceiveChain::~ReceiveChain() {
  disconnect();
}

GstElement* ReceiveChain::bin() const {
  return state_->bin.get();
}
const Codec& ReceiveChain::codec() const {
  return state_->codec;
}
uint64_t ReceiveChain::packets() const {
  return state_->edge->seen.load(std::memory_order_relaxed);
}

void ReceiveChain::set_stream_id(const std::string& stream_id, guint group) {
  std::lock_guard lock(state_->mutex);
  state_->stream_id = stream_id;
  state_->group = group;
}

void ReceiveChain::set_tags(GstTagList* tags) {
  std::lock_guard lock(state_->mutex);
  if (state_->tags) gst_tag_list_unref(state_->tags);
  state_->tags = tags;
}

void ReceiveChain::set_on_error(std::function<void(Error)> on_error) {
  state_->on_error = std::move(on_error);
}

// --- building --------------------------------------------------------------------------------

void ReceiveChain::State::clear() {
  edge->open = false;
  edge->asking = false;
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), nullptr);
  for (GstElement* element : inside) {
    gst_element_set_locked_state(element, TRUE);
    gst_element_set_state(element, GST_STATE_NULL);
  }
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), nullptr);
  for (GstElement* element : inside) gst_bin_remove(GST_BIN(bin.get()), element);
  inside.clear();
}

Result<ReceiveChain::Output> ReceiveChain::configure(const GstCaps* downstream) {
  State& s = *state_;
  Output output;
  if (accepts(downstream, s.video ? "video/x-raw(ANY)" : "audio/x-raw(ANY)"))
    output = Output::raw;
  else if (accepts(downstream, s.codec.encoded_caps))
    output = Output::encoded;
  else if (accepts(downstream, "application/x-rtp"))
    output = Output::rtp;
  else {
    g_autofree char* text = gst_caps_to_string(downstream);
    return peer_error(std::string("A ") + s.codec.name +
                      " track cannot be given to what it is linked to, which takes " + text + ".");
  }

  std::lock_guard building(s.building);
  // A decoder serves whatever takes raw media; a parser decides about its format but once. After an
  // end both begin anew.
  const bool ended = GST_PAD_IS_EOS(s.src);
  if (s.inside.empty() || output != s.output || output == Output::encoded || ended) {
    s.clear();
    s.output = output;
    std::string problem;
    if (!s.build(&problem)) {
      s.clear();
      return peer_error(problem);
    }
  }
  s.complained = false;
  s.edge->asking = s.video && output != Output::rtp;
  s.edge->open = true;
  s.ask_key_frame();
  return output;
}

bool ReceiveChain::State::build(std::string* problem) {
  std::string missing;
  auto append = [&](GstElement* element, const char* what) {
    if (!element) {
      if (missing.empty()) missing = what;
      return;
    }
    // A bin that just changes its state takes along what is added, before it has its properties.
    gst_element_set_locked_state(element, TRUE);
    gst_bin_add(GST_BIN(bin.get()), element);
    inside.push_back(element);
  };
  auto make = [&](const char* factory) {
    GstElement* element = gst_element_factory_make(factory, nullptr);
    append(element, factory);
    return element;
  };
  if (output == Output::rtp) {
    make("identity");
  } else {
    if (GstElement* depayloader = make(codec.depayloader)) {
      set_if_present(depayloader, "wait-for-keyframe", "true");
      set_if_present(depayloader, "request-keyframe", "true");
      watch_packets(depayloader);
      watch_depayloader(depayloader);
    }
    if (codec.parser) make(codec.parser);
    if (output == Output::raw) {
      append(make_decoder(codec), "decoder");
      make(video ? "videoconvert" : "audioconvert");
      if (!video) make("audioresample");
    }
  }
  if (!missing.empty()) {
    *problem = missing == "decoder"
                   ? std::string("No decoder for ") + codec.name +
                         " is installed. Install gstreamer1.0-libav or gstreamer1.0-plugins-bad."
                   : "The element " + missing + " is missing. Install " + package_of(missing) + ".";
    return false;
  }
  for (std::size_t i = 1; i < inside.size(); ++i)
    if (!gst_element_link(inside[i - 1], inside[i])) {
      *problem = std::string("Cannot link ") + GST_OBJECT_NAME(inside[i - 1]) + " to " +
                 GST_OBJECT_NAME(inside[i]) + ".";
      return false;
    }
  flowed = false;
  errors = 0;
  g_autoptr(GstPad) last = gst_element_get_static_pad(inside.back(), "src");
  watch_output();
  gst_ghost_pad_set_target(GST_GHOST_PAD(src), last);
  for (auto element = inside.rbegin(); element != inside.rend(); ++element) {
    gst_element_set_locked_state(*element, FALSE);
    gst_element_sync_state_with_parent(*element);
  }
  g_autoptr(GstPad) first = gst_element_get_static_pad(inside.front(), "sink");
  gst_ghost_pad_set_target(GST_GHOST_PAD(sink), first);
  return true;
}

void ReceiveChain::unconfigure() {
  // What is inside stays: a push may be stuck in what was just unlinked.
  State& s = *state_;
  s.edge->open = false;
  s.edge->asking = false;
}

void ReceiveChain::State::watch_output() {
  g_autoptr(GstPad) last = gst_element_get_static_pad(inside.back(), "src");
  gst_pad_add_probe(
      last, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        if (auto state = Weak<State>::lock(data)) state->on_output(info);
        return GST_PAD_PROBE_OK;
      },
      Weak<State>::make(shared_from_this()), Weak<State>::free);
}

// Time does not go back behind a gap that was announced, however late the machine is; nor do
// pictures and samples.
void ReceiveChain::State::on_output(GstPadProbeInfo* info) {
  flowed.store(true, std::memory_order_relaxed);
  if (!(GST_PAD_PROBE_INFO_TYPE(info) & GST_PAD_PROBE_TYPE_BUFFER)) return;
  GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
  GstClockTime position = GST_BUFFER_PTS(buffer);
  if (!GST_CLOCK_TIME_IS_VALID(position)) return;
  GstClockTime floor = out_floor.load(std::memory_order_relaxed);
  if (output == Output::raw)  // what is encoded may be in another order than it is shown
    floor = std::max(floor, out_position.load(std::memory_order_relaxed));
  if (position < floor) {
    buffer = gst_buffer_make_writable(buffer);
    GST_BUFFER_PTS(buffer) = position = floor;
    if (GST_BUFFER_DTS_IS_VALID(buffer)) GST_BUFFER_DTS(buffer) = floor;
    GST_PAD_PROBE_INFO_DATA(info) = buffer;
  }
  out_position.store(position, std::memory_order_relaxed);
}

void ReceiveChain::State::watch_packets(GstElement* depayloader) {
  if (!WholePictures::needed(codec.name)) return;
  pictures = std::make_unique<WholePictures>(codec.name);
  g_autoptr(GstPad) pad = gst_element_get_static_pad(depayloader, "sink");
  gst_pad_add_probe(
      pad, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST),
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        auto state = Weak<State>::lock(data);
        if (!state) return GST_PAD_PROBE_OK;
        if (info->type & GST_PAD_PROBE_TYPE_BUFFER) {
          state->on_packet(GST_PAD_PROBE_INFO_BUFFER(info));
        } else {
          GstBufferList* list = GST_PAD_PROBE_INFO_BUFFER_LIST(info);
          for (guint i = 0; i < gst_buffer_list_length(list); ++i)
            state->on_packet(gst_buffer_list_get(list, i));
        }
        return GST_PAD_PROBE_OK;
      },
      Weak<State>::make(shared_from_this()), Weak<State>::free);
}

void ReceiveChain::State::on_packet(GstBuffer* packet) {
  GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
  if (!gst_rtp_buffer_map(packet, GST_MAP_READ, &rtp)) return;
  pictures->add({gst_rtp_buffer_get_seq(&rtp),
                 gst_rtp_buffer_get_timestamp(&rtp),
                 bool(gst_rtp_buffer_get_marker(&rtp)),
                 GST_BUFFER_PTS(packet),
                 {static_cast<const uint8_t*>(gst_rtp_buffer_get_payload(&rtp)),
                  gst_rtp_buffer_get_payload_len(&rtp)}});
  gst_rtp_buffer_unmap(&rtp);
}

void ReceiveChain::State::watch_depayloader(GstElement* depayloader) {
  g_autoptr(GstPad) pad = gst_element_get_static_pad(depayloader, "src");
  gst_pad_add_probe(
      pad, GstPadProbeType(GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM),
      [](GstPad*, GstPadProbeInfo* info, gpointer data) {
        auto state = Weak<State>::lock(data);
        if (!state) return GST_PAD_PROBE_OK;
        if (info->type & GST_PAD_PROBE_TYPE_EVENT_DOWNSTREAM) {
          // A gap before any media is an error to parsers.
          bool gap = GST_EVENT_TYPE(GST_PAD_PROBE_INFO_EVENT(info)) == GST_EVENT_GAP;
          return gap && state->edge->asking.load(std::memory_order_relaxed) ? GST_PAD_PROBE_DROP
                                                                            : GST_PAD_PROBE_OK;
        }
        GstBuffer* buffer = GST_PAD_PROBE_INFO_BUFFER(info);
        if (state->video) return state->on_picture(buffer);
        // padding alone: a decoder would take it for a loss
        return gst_buffer_get_size(buffer) == 0 ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
      },
      Weak<State>::make(shared_from_this()), Weak<State>::free);
}

// Nothing but whole key frames passes until one has come.
GstPadProbeReturn ReceiveChain::State::on_picture(GstBuffer* picture) {
  const bool delta = GST_BUFFER_FLAG_IS_SET(picture, GST_BUFFER_FLAG_DELTA_UNIT);
  const bool lost = delta ? GST_BUFFER_FLAG_IS_SET(picture, GST_BUFFER_FLAG_DISCONT)
                          : pictures && !pictures->whole(GST_BUFFER_PTS(picture));
  if (lost)
    edge->asking.store(true, std::memory_order_relaxed);
  else if (!delta)
    edge->asking.store(false, std::memory_order_relaxed);
  return edge->asking.load(std::memory_order_relaxed) ? GST_PAD_PROBE_DROP : GST_PAD_PROBE_OK;
}

// --- key frames and errors -------------------------------------------------------------------

void ReceiveChain::State::ask_key_frame() {
  if (!video) return;
  gref<GstPad> pad;
  {
    std::lock_guard lock(mutex);
    pad = linked;
  }
  if (!pad) return;
  asked_us = g_get_monotonic_time();
  gst_pad_send_event(pad.get(),
                     gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
}

// A request may have been lost, or have come too early for the SFU.
void ReceiveChain::State::ask_again() {
  if (g_get_monotonic_time() - asked_us.load(std::memory_order_relaxed) >= kAskAgainUs)
    ask_key_frame();
}

// A muxer that cuts its files asks long before for a key frame at the time of the cut. A PLI knows
// no time, so it is sent then. False: it is wanted now.
bool ReceiveChain::State::put_off(GstEvent* event) {
  GstClockTime wanted = GST_CLOCK_TIME_NONE;
  gst_video_event_parse_upstream_force_key_unit(event, &wanted, nullptr, nullptr);
  if (!video || !GST_CLOCK_TIME_IS_VALID(wanted)) return false;
  GstClockTime now = gst_element_get_current_running_time(bin.get());
  g_autoptr(GstClock) clock = gst_element_get_clock(bin.get());
  if (!clock || !GST_CLOCK_TIME_IS_VALID(now) || wanted <= now) return false;
  GstClockID id =
      gst_clock_new_single_shot_id(clock, gst_element_get_base_time(bin.get()) + wanted);
  GstClockReturn waits = gst_clock_id_wait_async(
      id,
      [](GstClock*, GstClockTime, GstClockID, gpointer data) -> gboolean {
        if (auto state = Weak<State>::lock(data)) state->ask_key_frame();
        return TRUE;
      },
      Weak<State>::make(shared_from_this()), [](gpointer data) { Weak<State>::free(data); });
  gst_clock_id_unref(id);
  return waits == GST_CLOCK_OK;
}

void ReceiveChain::State::complain(std::string message) {
  if (on_error && !complained.exchange(true)) on_error(peer_error(std::move(message)));
}

// What comes from the network must not end the pipeline. Trouble of this machine may.
bool ReceiveChain::State::keep_message(GstMessage* message) {
  const auto type = GST_MESSAGE_TYPE(message);
  if (type != GST_MESSAGE_ERROR && type != GST_MESSAGE_WARNING) return true;
  g_autoptr(GError) error = nullptr;
  g_autofree char* debug = nullptr;
  if (type == GST_MESSAGE_ERROR)
    gst_message_parse_error(message, &error, &debug);
  else
    gst_message_parse_warning(message, &error, &debug);
  if (error->domain != GST_STREAM_ERROR && error->domain != GST_CORE_ERROR) return true;
  GST_WARNING_OBJECT(bin.get(), "%s: %s (%s)", GST_MESSAGE_SRC_NAME(message), error->message,
                     debug ? debug : "");
  if (edge->open && output != Output::rtp && video) edge->asking = true;
  if (!flowed && ++errors == kHopelessErrors)
    complain(std::string("The ") + codec.name + " track cannot be decoded: " + error->message);
  return false;
}

// --- events and queries ----------------------------------------------------------------------

gboolean ReceiveChain::State::on_upstream_event(GstPad* pad, GstObject* parent, GstEvent* event) {
  if (GST_EVENT_TYPE(event) == GST_EVENT_SEEK) {  // nothing here can seek
    gst_event_unref(event);
    return FALSE;
  }
  if (gst_video_event_is_force_key_unit(event)) {
    // Depayloaders ask with every packet, or but once; what downstream wishes is passed on.
    gint64 now = g_get_monotonic_time();
    if (gst_event_get_seqnum(event) != wish) {
      edge->asking = edge->open && output != Output::rtp;
      if (now - asked_us < kAskAgainUs) {
        gst_event_unref(event);
        return TRUE;
      }
    }
    asked_us = now;
  }
  return gst_pad_event_default(pad, parent, event);
}

// While there is no webrtcbin the latency is what it was: sinks keep their pace.
gboolean ReceiveChain::State::on_upstream_query(GstPad* pad, GstObject* parent, GstQuery* query) {
  if (GST_QUERY_TYPE(query) != GST_QUERY_LATENCY) return gst_pad_query_default(pad, parent, query);
  bool answered = gst_pad_is_linked(sink) && gst_pad_query_default(pad, parent, query);
  std::lock_guard lock(mutex);
  if (answered)
    gst_query_parse_latency(query, &live, &min_latency, &max_latency);
  else
    gst_query_set_latency(query, live, min_latency, max_latency);
  return TRUE;
}

// Downstream sees one stream of our name, however often webrtcbin is replaced.
GstEvent* ReceiveChain::State::own_stream_start(GstEvent* event) {
  std::lock_guard lock(mutex);
  const char* id = stream_id.c_str();
  if (stream_id.empty() && event) gst_event_parse_stream_start(event, &id);
  GstEvent* own = gst_event_new_stream_start(id);
  gst_event_set_group_id(own, group);
  return own;
}

// Takes a tag event, or null; gives one with our tags first, or null if there are none.
GstEvent* ReceiveChain::State::with_tags(GstEvent* event) {
  std::lock_guard lock(mutex);
  if (!tags) return event;
  GstTagList* list = gst_tag_list_copy(tags);
  gst_tag_list_set_scope(list, GST_TAG_SCOPE_STREAM);
  if (event) {
    GstTagList* theirs = nullptr;
    gst_event_parse_tag(event, &theirs);
    gst_tag_list_insert(list, theirs, GST_TAG_MERGE_KEEP);
    gst_event_unref(event);
  }
  return gst_event_new_tag(list);
}

// A gap of a depayloader's or decoder's may begin before what has come out: what is left of it.
GstEvent* ReceiveChain::State::later_gap(GstEvent* event) {
  GstClockTime start, duration;
  gst_event_parse_gap(event, &start, &duration);
  const GstClockTime known = std::max(out_position.load(std::memory_order_relaxed),
                                      out_floor.load(std::memory_order_relaxed));
  const bool bounded = GST_CLOCK_TIME_IS_VALID(duration);
  const GstClockTime end = bounded ? start + duration : start;
  if (start < known) {
    gst_event_unref(event);
    if (end <= known) return nullptr;
    event = gst_event_new_gap(known, end - known);
  }
  out_floor.store(end, std::memory_order_relaxed);
  return event;
}

// Takes the event, gives what goes out in its place, or null.
GstEvent* ReceiveChain::State::on_output_event(GstEvent* event) {
  switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_STREAM_START: {
      g_autoptr(GstEvent) before = gst_pad_get_sticky_event(src, GST_EVENT_STREAM_START, 0);
      GstEvent* own = before && !GST_PAD_IS_EOS(src) ? nullptr : own_stream_start(event);
      gst_event_unref(event);
      return own;
    }
    case GST_EVENT_SEGMENT:
      if (GstEvent* own = with_tags(nullptr)) {
        gst_pad_store_sticky_event(src, own);  // goes out before the next buffer
        gst_event_unref(own);
      }
      return event;
    case GST_EVENT_GAP: return later_gap(event);
    case GST_EVENT_TAG: {
      GstTagList* list = nullptr;
      gst_event_parse_tag(event, &list);
      return gst_tag_list_get_scope(list) == GST_TAG_SCOPE_STREAM ? with_tags(event) : event;
    }
    default: return event;
  }
}

// --- the ends --------------------------------------------------------------------------------

bool ReceiveChain::connect(GstPad* webrtc_src) {
  State& s = *state_;
  disconnect();
  // A section that is used again may still have the chain of the track before.
  if (g_autoptr(GstPad) before = gst_pad_get_peer(webrtc_src)) gst_pad_unlink(webrtc_src, before);
  // The peer before may have ended, and the next one need not say that a stream starts.
  GST_OBJECT_FLAG_UNSET(s.sink, GST_PAD_FLAG_EOS);
  if (gst_pad_link(webrtc_src, s.sink) != GST_PAD_LINK_OK) return false;
  {
    std::lock_guard lock(s.mutex);
    s.linked = gref<GstPad>::ref(webrtc_src);
  }
  if (s.edge->open) s.ask_key_frame();
  return true;
}

void ReceiveChain::disconnect() {
  gref<GstPad> linked;
  {
    std::lock_guard lock(state_->mutex);
    linked = std::move(state_->linked);
    state_->linked.reset();
  }
  if (linked) gst_pad_unlink(linked.get(), state_->sink);
}

void ReceiveChain::fill_gap() {
  State& s = *state_;
  if (s.filling.exchange(true)) return;
  {
    std::lock_guard building(s.building);
    if (s.edge->open && s.flowed && !s.inside.empty()) {
      g_autoptr(GstPad) first = gst_element_get_static_pad(s.inside.front(), "sink");
      GST_PAD_STREAM_LOCK(first);
      s.send_gap();
      GST_PAD_STREAM_UNLOCK(first);
    }
  }
  s.filling = false;
}

// Past the decoders, which would conceal what is missing instead of saying so. With the stream lock
// of the first element, under which everything is pushed.
void ReceiveChain::State::send_gap() {
  uint64_t seen = edge->seen.load(std::memory_order_relaxed);
  GstClockTime now = gst_element_get_current_running_time(bin.get());
  if (now == GST_CLOCK_TIME_NONE) return;
  GstClockTime latency;
  {
    std::lock_guard lock(mutex);
    latency = min_latency;
  }
  // What comes from now on is not older than this, unless the jitter buffer is late.
  latency += kGapMargin;
  if (now < latency) return;
  now -= latency;
  // The first look after a packet marks where the silence begins.
  bool begins = seen != gap_seen;
  GstClockTime from = std::exchange(gap_end, now);
  gap_seen = seen;
  if (begins || from >= now) return;
  g_autoptr(GstEvent) sticky = gst_pad_get_sticky_event(src, GST_EVENT_SEGMENT, 0);
  if (!sticky) return;
  const GstSegment* segment;
  gst_event_parse_segment(sticky, &segment);
  GstClockTime start = gst_segment_position_from_running_time(segment, GST_FORMAT_TIME, from);
  const GstClockTime end = gst_segment_position_from_running_time(segment, GST_FORMAT_TIME, now);
  if (!GST_CLOCK_TIME_IS_VALID(start) || !GST_CLOCK_TIME_IS_VALID(end)) return;
  // A slow decoder may have given more meanwhile.
  start = std::max({start, out_position.load(std::memory_order_relaxed),
                    out_floor.load(std::memory_order_relaxed)});
  if (start >= end) return;
  out_floor = end;
  gst_pad_push_event(src, gst_event_new_gap(start, end - start));
}

// What comes next wants no more: it is told of the end, as by any source. On the streaming thread.
void ReceiveChain::State::had_enough() {
  edge->open = false;
  edge->asking = false;
  g_autoptr(GstPad) first = gst_ghost_pad_get_target(GST_GHOST_PAD(sink));
  if (first) gst_pad_send_event(first, gst_event_new_eos());
}

void ReceiveChain::end() {
  State& s = *state_;
  std::lock_guard building(s.building);
  s.edge->open = false;
  s.edge->asking = false;
  if (s.inside.empty()) return;
  g_autoptr(GstPad) first = gst_element_get_static_pad(s.inside.front(), "sink");
  GST_PAD_STREAM_LOCK(first);  // after what is being pushed
  if (s.flowed) {
    gst_pad_send_event(first, gst_event_new_eos());
  } else {
    // An end without a beginning is an error to parsers and decoders: past them.
    g_autoptr(GstEvent) started = gst_pad_get_sticky_event(s.src, GST_EVENT_STREAM_START, 0);
    if (!started) gst_pad_push_event(s.src, s.own_stream_start(nullptr));
    gst_pad_push_event(s.src, gst_event_new_eos());
  }
  GST_PAD_STREAM_UNLOCK(first);
}

}  // namespace cfr
