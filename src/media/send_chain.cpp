#include "media/send_chain.h"

#include <gst/video/video.h>

#include "media/send_chain_state.h"

GST_DEBUG_CATEGORY(cf_realtime_media_debug);
#define GST_CAT_DEFAULT cf_realtime_media_debug

namespace cfr {

namespace {

// In the order in which a source should choose: what needs no conversion, other raw, the rest.
gref<GstCaps> preferred_caps(MediaKind kind) {
  GstCaps* caps = gst_caps_from_string(
      kind == MediaKind::video ? "video/x-raw, format=(string)I420"
                               : "audio/x-raw, format=(string)S16LE, layout=(string)interleaved, "
                                 "rate=(int)48000, channels=(int)[ 1, 2 ]");
  gst_caps_append(caps, sendable_caps(kind).release());
  // An Opus encoder that is asked in time mixes down; more channels that come all the same are
  // refused with a reason.
  for (guint i = 0; i < gst_caps_get_size(caps); ++i)
    if (GstStructure* structure = gst_caps_get_structure(caps, i);
        gst_structure_has_name(structure, "audio/x-opus"))
      gst_structure_set(structure, "channels", GST_TYPE_INT_RANGE, 1, 2, nullptr);
  return gref<GstCaps>::adopt(caps);
}

}  // namespace

SendChain::SendChain(MediaKind kind, const char* name, Callbacks callbacks,
                     std::shared_ptr<Timeline> timeline)
    : state_(std::make_shared<State>(kind, std::move(callbacks), std::move(timeline))) {
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
  gst_pad_set_event_function_full(
      s.sink,
      [](GstPad* pad, GstObject* parent, GstEvent* event) -> gboolean {
        auto state = Weak<State>::lock(pad->eventdata);
        if (state && GST_EVENT_TYPE(event) == GST_EVENT_CAPS) {
          GstCaps* caps = nullptr;
          gst_event_parse_caps(event, &caps);
          gref<GstCaps> usable = state->on_caps(caps);
          if (usable && usable.get() != caps) {
            GstEvent* own = gst_event_new_caps(usable.get());
            gst_event_set_seqnum(own, gst_event_get_seqnum(event));
            gst_event_unref(event);
            event = own;
          }
          if (!usable) {
            gst_event_unref(event);
            return FALSE;  // upstream: not negotiated
          }
        } else if (state && GST_EVENT_TYPE(event) == GST_EVENT_SEGMENT) {
          event = state->in_time(event);
        } else if (state && GST_EVENT_TYPE(event) == GST_EVENT_EOS && !state->built) {
          state->callbacks.on_eos();  // ended before it began
        } else if (state && GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_STOP) {
          gboolean reset_time = FALSE;
          gst_event_parse_flush_stop(event, &reset_time);
          if (reset_time) state->begin_anew(gst_event_get_seqnum(event));
          state->begin_after_end();
        }
        return gst_pad_event_default(pad, parent, event);
      },
      Weak<State>::make(state_), Weak<State>::free);
  // What can be sent does not depend on what is being sent: the inside is built anew for it.
  gst_pad_set_query_function_full(
      s.sink,
      [](GstPad* pad, GstObject* parent, GstQuery* query) -> gboolean {
        auto state = Weak<State>::lock(pad->querydata);
        if (state && GST_QUERY_TYPE(query) == GST_QUERY_CAPS) {
          GstCaps* filter = nullptr;
          gst_query_parse_caps(query, &filter);
          gref<GstCaps> caps = preferred_caps(state->kind);
          if (filter)
            caps = gref<GstCaps>::adopt(
                gst_caps_intersect_full(caps.get(), filter, GST_CAPS_INTERSECT_FIRST));
          gst_query_set_caps_result(query, caps.get());
          return TRUE;
        }
        // What cannot be sent is refused with a reason when it comes.
        if (GST_QUERY_TYPE(query) == GST_QUERY_ACCEPT_CAPS) {
          gst_query_set_accept_caps_result(query, TRUE);
          return TRUE;
        }
        return gst_pad_query_default(pad, parent, query);
      },
      Weak<State>::make(state_), Weak<State>::free);
  std::weak_ptr<State> weak = state_;
  s.edge->on_first_packet = [weak] {
    if (auto state = weak.lock()) state->callbacks.on_first_packet();
  };
  s.edge->on_eos = [weak] {
    auto state = weak.lock();
    if (!state) return;
    state->ended = true;
    state->callbacks.on_eos();
  };
  s.edge->on_event = [weak](GstEvent* event) {
    if (GST_EVENT_TYPE(event) != GST_EVENT_CAPS) return;
    GstCaps* caps = nullptr;
    gst_event_parse_caps(event, &caps);
    auto state = weak.lock();
    if (state && !state->shape.rtp &&
        gst_structure_has_field(gst_caps_get_structure(caps, 0), "ssrc"))
      state->report(caps);
  };
  s.edge->on_flow = [weak](GstFlowReturn flow) {
    auto state = weak.lock();
    if (state && flow != GST_FLOW_OK)
      GST_INFO_OBJECT(state->bin.get(), "webrtcbin takes no packets: %s", gst_flow_get_name(flow));
  };
  install_edge(s.src, s.edge);
  gst_element_add_pad(s.bin.get(), s.sink);
  gst_element_add_pad(s.bin.get(), s.src);
}

SendChain::~SendChain() {
  disconnect();
}

GstElement* SendChain::bin() const {
  return state_->bin.get();
}

uint64_t SendChain::packets() const {
  return state_->edge->passed.load(std::memory_order_relaxed);
}

void SendChain::set_mid(const std::string& mid) {
  gref<GstElement> extension;
  std::shared_ptr<RtpInput> rtp_input;
  {
    std::lock_guard lock(state_->mutex);
    state_->mid = mid;
    extension = state_->mid_extension;
    rtp_input = state_->rtp_input;
  }
  if (extension) g_object_set(extension.get(), "mid", mid.c_str(), nullptr);
  if (rtp_input) rtp_input->set_mid(mid);
}

void SendChain::rearm() {
  State& s = *state_;
  s.clear();
  s.refused.reset();
  s.ended = false;
  s.timeline->forget();
  s.epoch = 0;
  std::lock_guard lock(s.mutex);
  s.connected_once = false;
}

bool SendChain::connect(GstPad* webrtc_sink) {
  State& s = *state_;
  disconnect();
  s.edge->relinked = true;
  if (gst_pad_link(s.src, webrtc_sink) != GST_PAD_LINK_OK) return false;
  {
    std::lock_guard lock(s.mutex);
    s.linked = gref<GstPad>::ref(webrtc_sink);
    s.connected_once = true;
  }
  s.edge->fresh = true;
  s.edge->open = true;
  if (s.kind == MediaKind::video) {
    GstPad* inner = GST_PAD(gst_proxy_pad_get_internal(GST_PROXY_PAD(s.src)));
    gst_pad_push_event(inner,
                       gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
    gst_object_unref(inner);
  }
  s.release();
  return true;
}

void SendChain::give_up() {
  {
    std::lock_guard lock(state_->mutex);
    state_->connected_once = true;
  }
  state_->release();
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

void SendChain::leave() {
  disconnect();
  gst_pad_send_event(state_->sink, gst_event_new_flush_start());
}

}  // namespace cfr
