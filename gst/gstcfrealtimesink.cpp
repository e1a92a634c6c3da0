/**
 * SECTION:element-cfrealtimesink
 * @title: cfrealtimesink
 * @short_description: Publish audio and video to the Cloudflare Realtime SFU
 *
 * cfrealtimesink publishes each of its sink pads as a track of one Realtime SFU session. Raw video
 * and audio are encoded for live use (H.264, else VP8; Opus); encoded media and RTP pass through.
 * It creates the session, offers, answers and keeps the connection; PLI and FIR of viewers become
 * key frame requests. The session id that viewers need is in the property session-id.
 *
 * ## Through the local SFU (cfrealtime-sfu --port 8080 --app-id demo)
 * |[
 * CFREALTIME_API_URL=http://127.0.0.1:8080/v1 \
 *   gst-launch-1.0 -v videotestsrc is-live=true ! cfrealtimesink app-id=demo
 * ]|
 * ## Camera and microphone to the service (secret in CFREALTIME_APP_SECRET)
 * |[
 * gst-launch-1.0 -v cfrealtimesink name=s app-id=$APP_ID  v4l2src ! s.  pulsesrc ! s.
 * ]|
 */
#include "gstcfrealtimesink.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "gstcfrealtimebase.h"
#include "gstcfrealtimepad.h"
#include "media/send_chain.h"

GST_DEBUG_CATEGORY_STATIC(cf_realtime_sink_debug);
#define GST_CAT_DEFAULT cf_realtime_sink_debug

namespace {

constexpr unsigned kEosCloseTimeoutMs = 500;

enum { PROP_0, PROP_SESSION_ID };
enum { SIGNAL_SESSION_CREATED, SIGNAL_TRACK_LIVE, SIGNAL_TRACK_CLOSED, SIGNAL_COUNT };
guint signals[SIGNAL_COUNT];

using cfr::MediaKind;
using cfr::TrackId;

// One sink pad. Members under the element's object lock, but for `chain` and `pad`, which stay.
struct SinkPad {
  cfr::gref<GstPad> pad;
  std::unique_ptr<cfr::SendChain> chain;
  TrackId track = 0;  // 0 = no caps yet; a new one for each codec and each run
  std::string name;   // of that track
  bool eos = false;
  bool live = false;     // announced
  bool closing = false;  // the SFU has not confirmed the close yet
  // Of the worker: packets sent, and looks in a row without another.
  uint64_t packets = 0;
  unsigned silent = 0;
};

// The SFU gives up a track that is silent for 30 s. After half of that it is looked whether it has.
constexpr unsigned kSilentLooks = 2 * 15;

// What the property track-name says; a track that has begun keeps the name it had then.
std::string name_now(const SinkPad& pad) {
  g_autofree char* name = gst_cf_realtime_pad_dup_track_name(GST_CF_REALTIME_PAD(pad.pad.get()));
  return name;
}

class SinkState : public cfr::ElementState {
 public:
  explicit SinkState(GstCfRealtimeBase* element) : ElementState(element, false) {}

  GstPad* request_pad(GstPadTemplate* templ, const char* wanted);
  void release_pad(GstPad* pad);
  std::vector<cfr::gref<GstPad>> sink_pads();

  void on_peer_dropped() override;
  void on_stopped() override;

  void on_session_id(const std::string& session_id) override;
  void on_sendable(TrackId track, const std::string& mid, GstPad* webrtc_sink) override;
  void on_track_live(TrackId track, const std::string& mid) override;
  void on_track_closed(TrackId track) override;
  void on_track_failed(TrackId track, const cfr::Error& error, bool retrying) override;
  void on_remote_track(TrackId, const std::string&, const std::string&) override {}
  void on_remote_track_ended(TrackId) override {}
  void on_remote_track_moved(TrackId, TrackId, const std::string&) override {}
  uint64_t packets_sent() override;
  void on_watch() override;
  void on_remote_pad(TrackId, GstPad*) override {}

 private:
  using PadRef = std::shared_ptr<SinkPad>;

  std::vector<PadRef> pads();
  PadRef find(TrackId track);
  void have_caps(const std::weak_ptr<SinkPad>& weak, cfr::gref<GstCaps> caps);
  void refuse(const PadRef& record, TrackId before, const PadRef& rival);
  void have_packet(const std::weak_ptr<SinkPad>& weak);
  void have_eos(const std::weak_ptr<SinkPad>& weak);
  void end_all();
  void finish_eos();

  // under the object lock
  std::vector<PadRef> pads_;
  std::map<TrackId, std::string> released_;  // names of live tracks whose pads are gone
  TrackId next_track_ = 1;
  unsigned next_audio_ = 0, next_video_ = 0;
  bool eos_posted_ = false;
  // of all pads, so that they stay in step
  const std::shared_ptr<cfr::Timeline> timeline_ = std::make_shared<cfr::Timeline>();
  // worker
  cfr::Timer eos_timer_;
};

std::vector<SinkState::PadRef> SinkState::pads() {
  GST_OBJECT_LOCK(element());
  auto copy = pads_;
  GST_OBJECT_UNLOCK(element());
  return copy;
}

std::vector<cfr::gref<GstPad>> SinkState::sink_pads() {
  std::vector<cfr::gref<GstPad>> all;
  for (const PadRef& record : pads()) all.push_back(record->pad);
  return all;
}

SinkState::PadRef SinkState::find(TrackId track) {
  GST_OBJECT_LOCK(element());
  PadRef found;
  for (const PadRef& pad : pads_)
    if (pad->track == track) found = pad;
  GST_OBJECT_UNLOCK(element());
  return found;
}

// --- pads ------------------------------------------------------------------------------------

// The chain says what it cannot send, and why; a pad that does not accept it would say nothing.
static gboolean query_pad(GstPad* pad, GstObject* parent, GstQuery* query) {
  if (GST_QUERY_TYPE(query) != GST_QUERY_ACCEPT_CAPS)
    return gst_pad_query_default(pad, parent, query);
  gst_query_set_accept_caps_result(query, TRUE);
  return TRUE;
}

GstPad* SinkState::request_pad(GstPadTemplate* templ, const char* wanted) {
  bool video = g_str_has_prefix(GST_PAD_TEMPLATE_NAME_TEMPLATE(templ), "video");
  std::string name;
  GST_OBJECT_LOCK(element());
  unsigned& next = video ? next_video_ : next_audio_;
  unsigned number = 0;
  if (wanted && sscanf(wanted, video ? "video_%u" : "audio_%u", &number) == 1) {
    name = wanted;
    next = std::max(next, number + 1);
  } else {
    name = (video ? "video_" : "audio_") + std::to_string(next++);
  }
  GST_OBJECT_UNLOCK(element());

  auto record = std::make_shared<SinkPad>();
  std::weak_ptr<SinkPad> weak = record;
  cfr::SendChain::Callbacks callbacks;
  callbacks.on_caps = [this, weak](cfr::gref<GstCaps> caps) { have_caps(weak, std::move(caps)); };
  callbacks.on_first_packet = [this, weak] { have_packet(weak); };
  callbacks.on_eos = [this, weak] { have_eos(weak); };
  callbacks.on_error = [this, weak](cfr::Error error) {
    if (auto failed = weak.lock()) error.track = name_now(*failed);
    post_error(error, false);
  };
  record->chain =
      std::make_unique<cfr::SendChain>(video ? MediaKind::video : MediaKind::audio,
                                       ("send-" + name).c_str(), std::move(callbacks), timeline_);
  GstElement* inside = record->chain->bin();
  if (!gst_bin_add(bin(), inside)) return nullptr;
  gst_element_sync_state_with_parent(inside);

  GstPad* pad = gst_cf_realtime_pad_new(name.c_str(), templ);
  gst_pad_set_query_function(pad, query_pad);
  g_autoptr(GstPad) target = gst_element_get_static_pad(inside, "sink");
  gst_ghost_pad_set_target(GST_GHOST_PAD(pad), target);
  record->pad = cfr::gref<GstPad>::ref(pad);
  GST_OBJECT_LOCK(element());
  pads_.push_back(record);
  GST_OBJECT_UNLOCK(element());
  if (GST_STATE(element()) > GST_STATE_READY || GST_STATE_PENDING(element()) > GST_STATE_READY)
    gst_pad_set_active(pad, TRUE);
  if (!gst_element_add_pad(element(), pad)) {  // the name is taken; it was freed
    GST_OBJECT_LOCK(element());
    std::erase(pads_, record);
    GST_OBJECT_UNLOCK(element());
    gst_element_set_state(inside, GST_STATE_NULL);
    gst_bin_remove(bin(), inside);
    return nullptr;
  }
  gst_child_proxy_child_added(GST_CHILD_PROXY(element()), G_OBJECT(pad), name.c_str());
  return pad;
}

void SinkState::release_pad(GstPad* pad) {
  PadRef record;
  GST_OBJECT_LOCK(element());
  for (const PadRef& candidate : pads_)
    if (candidate->pad.get() == pad) record = candidate;
  if (record) std::erase(pads_, record);
  bool ended = record && !record->eos && !pads_.empty();  // with it, the last that had not
  for (const PadRef& other : pads_) ended = ended && other->eos;
  GST_OBJECT_UNLOCK(element());
  if (!record) return;

  gst_object_ref(pad);
  // Nothing can be stuck inside the chain while its bin goes down.
  record->chain->leave();
  GstElement* inside = record->chain->bin();
  while_webrtcbin_plays([pad] { gst_pad_set_active(pad, FALSE); });
  GST_OBJECT_LOCK(element());
  TrackId track = record->track;
  if (track && record->live) released_[track] = record->name;
  GST_OBJECT_UNLOCK(element());
  gst_element_set_locked_state(inside, TRUE);
  gst_element_set_state(inside, GST_STATE_NULL);
  gst_ghost_pad_set_target(GST_GHOST_PAD(pad), nullptr);
  if (GST_OBJECT_PARENT(inside)) gst_bin_remove(bin(), inside);  // not when all is disposed of
  gst_child_proxy_child_removed(GST_CHILD_PROXY(element()), G_OBJECT(pad), GST_OBJECT_NAME(pad));
  gst_element_remove_pad(element(), pad);
  gst_object_unref(pad);
  if (track) post([track](cfr::Session& session) { session.drop(track); });
  if (ended) end_all();
}

// --- from the chains (streaming threads) -----------------------------------------------------

void SinkState::have_caps(const std::weak_ptr<SinkPad>& weak, cfr::gref<GstCaps> caps) {
  auto record = weak.lock();
  if (!record) return;
  std::string name = name_now(*record);
  GST_OBJECT_LOCK(element());
  TrackId before = record->track;
  PadRef rival;
  for (const PadRef& pad : pads_)
    if (pad != record && pad->track && !pad->eos && pad->name == name) rival = pad;
  TrackId track = record->track = rival ? 0 : next_track_++;
  record->name = name;
  record->live = false;
  record->eos = false;
  eos_posted_ = false;
  GST_OBJECT_UNLOCK(element());
  if (rival) {
    refuse(record, before, rival);
    return;
  }
  GST_DEBUG_OBJECT(record->pad.get(), "track %u will send %" GST_PTR_FORMAT, track, caps.get());
  post([before, track, name, caps](cfr::Session& session) {
    if (before)
      session.replace(before, track, name, caps);
    else
      session.publish(track, name, caps);
  });
}

// Two tracks of one name are one too many: viewers ask for a track by its name.
void SinkState::refuse(const PadRef& record, TrackId before, const PadRef& rival) {
  if (before) post([before](cfr::Session& session) { session.drop(before); });
  record->chain->give_up();
  cfr::Error error;
  error.kind = cfr::ErrorKind::config;
  error.track = record->name;
  error.message = std::string("The pad ") + GST_PAD_NAME(record->pad.get()) +
                  " is not published: the track name " + record->name + " is that of " +
                  GST_PAD_NAME(rival->pad.get()) + ". Set another track-name.";
  post_error(error, true);
}

void SinkState::have_packet(const std::weak_ptr<SinkPad>& weak) {
  post([this, weak](cfr::Session& session) {
    auto record = weak.lock();
    if (!record) return;
    GST_OBJECT_LOCK(element());
    bool first = !std::exchange(record->live, true);
    TrackId track = record->track;
    std::string name = record->name;
    GST_OBJECT_UNLOCK(element());
    session.track_sending(track);
    if (!first) return;
    g_autofree char* mid = nullptr;
    g_object_get(record->pad.get(), "mid", &mid, nullptr);
    GST_INFO_OBJECT(record->pad.get(), "track %s is live", name.c_str());
    g_signal_emit(element(), signals[SIGNAL_TRACK_LIVE], 0, name.c_str(), mid);
  });
}

void SinkState::have_eos(const std::weak_ptr<SinkPad>& weak) {
  auto record = weak.lock();
  if (!record) return;
  GST_OBJECT_LOCK(element());
  record->eos = true;
  TrackId track = record->track;
  record->closing = record->live;
  bool all = true;
  for (const PadRef& pad : pads_) all = all && pad->eos;
  GST_OBJECT_UNLOCK(element());
  GST_DEBUG_OBJECT(record->pad.get(), "ended%s", all ? ", as all others" : "");
  post([track](cfr::Session& session) {
    if (track) session.drop(track);
  });
  if (all) end_all();
}

// The tracks are closed at the SFU before EOS is posted, but it waits no longer than this.
void SinkState::end_all() {
  post([this](cfr::Session&) {
    eos_timer_.start(*worker_on_worker(), kEosCloseTimeoutMs, [this] { finish_eos(); });
    on_track_closed(0);
  });
}

void SinkState::finish_eos() {
  eos_timer_.cancel();
  GST_OBJECT_LOCK(element());
  bool post = !std::exchange(eos_posted_, true);
  GST_OBJECT_UNLOCK(element());
  if (post) gst_element_post_message(element(), gst_message_new_eos(GST_OBJECT(element())));
}

// --- from the session (worker) ---------------------------------------------------------------

void SinkState::on_session_id(const std::string& session_id) {
  ElementState::on_session_id(session_id);
  g_object_notify(G_OBJECT(element()), "session-id");
  if (session_id.empty()) return;
  gst_element_post_message(
      element(),
      gst_message_new_element(GST_OBJECT(element()),
                              gst_structure_new("cfrealtime-session", "session-id", G_TYPE_STRING,
                                                session_id.c_str(), nullptr)));
  g_signal_emit(element(), signals[SIGNAL_SESSION_CREATED], 0, session_id.c_str());
}

void SinkState::on_sendable(TrackId track, const std::string& mid, GstPad* webrtc_sink) {
  PadRef record = find(track);
  if (!record) return;
  record->silent = 0;
  record->chain->set_mid(mid);
  if (!record->chain->connect(webrtc_sink))
    GST_WARNING_OBJECT(record->pad.get(), "cannot be linked to webrtcbin");
}

void SinkState::on_track_live(TrackId track, const std::string& mid) {
  if (PadRef record = find(track))
    gst_cf_realtime_pad_set_mid(GST_CF_REALTIME_PAD(record->pad.get()), mid.c_str());
}

void SinkState::on_track_closed(TrackId track) {
  std::string name;
  bool waiting = false, all_eos = true;
  GST_OBJECT_LOCK(element());
  for (const PadRef& pad : pads_) {
    if (track && pad->track == track) {
      pad->closing = false;
      if (std::exchange(pad->live, false)) name = pad->name;
    }
    waiting = waiting || pad->closing;
    all_eos = all_eos && pad->eos;
  }
  if (auto node = released_.extract(track)) name = node.mapped();
  waiting = waiting || !released_.empty();
  all_eos = all_eos && !pads_.empty();
  GST_OBJECT_UNLOCK(element());
  if (!name.empty()) g_signal_emit(element(), signals[SIGNAL_TRACK_CLOSED], 0, name.c_str());
  if (all_eos && !waiting && eos_timer_.armed()) finish_eos();
}

void SinkState::on_track_failed(TrackId track, const cfr::Error& error, bool retrying) {
  if (retrying) return;
  PadRef record = find(track);
  cfr::Error named = error;
  GST_OBJECT_LOCK(element());
  bool others = false;
  for (const PadRef& pad : pads_) others = others || (pad->track && pad->track != track);
  if (record) named.track = record->name;
  if (record) record->track = 0;
  GST_OBJECT_UNLOCK(element());
  if (record) record->chain->give_up();
  post_error(named, others);
}

uint64_t SinkState::packets_sent() {
  uint64_t sum = 0;
  for (const PadRef& pad : pads()) sum += pad->chain->packets();
  return sum;
}

void SinkState::on_watch() {
  for (const PadRef& pad : pads()) {
    uint64_t packets = pad->chain->packets();
    if (packets == std::exchange(pad->packets, packets)) {
      ++pad->silent;
    } else if (std::exchange(pad->silent, 0) >= kSilentLooks) {
      GST_OBJECT_LOCK(element());
      TrackId track = pad->track;
      GST_OBJECT_UNLOCK(element());
      post([track](cfr::Session& session) { session.track_resumed(track); });
    }
  }
}

void SinkState::on_peer_dropped() {
  for (const PadRef& pad : pads()) {
    pad->chain->disconnect();
    gst_cf_realtime_pad_set_mid(GST_CF_REALTIME_PAD(pad->pad.get()), nullptr);
  }
}

void SinkState::on_stopped() {
  eos_timer_.cancel();
  for (const PadRef& pad : pads()) pad->chain->rearm();
  GST_OBJECT_LOCK(element());
  for (const PadRef& pad : pads_) {
    pad->track = 0;
    pad->eos = pad->live = pad->closing = false;
  }
  released_.clear();
  eos_posted_ = false;
  GST_OBJECT_UNLOCK(element());
  if (session_id().empty()) return;
  ElementState::on_session_id("");
  g_object_notify(G_OBJECT(element()), "session-id");
}

SinkState* state_of(gpointer element) {
  return static_cast<SinkState*>(GST_CF_REALTIME_BASE(element)->state);
}

}  // namespace

// --- GObject ---------------------------------------------------------------------------------

struct _GstCfRealtimeSink {
  GstCfRealtimeBase parent;
};

static void gst_cf_realtime_sink_child_proxy_init(gpointer iface, gpointer);

G_DEFINE_TYPE_WITH_CODE(GstCfRealtimeSink, gst_cf_realtime_sink, GST_TYPE_CF_REALTIME_BASE,
                        G_IMPLEMENT_INTERFACE(GST_TYPE_CHILD_PROXY,
                                              gst_cf_realtime_sink_child_proxy_init))

// Children are the pads: what is inside the bin is nobody's business.
static GObject* gst_cf_realtime_sink_child_by_index(GstChildProxy* proxy, guint index) {
  GST_OBJECT_LOCK(proxy);
  auto* pad = static_cast<GObject*>(g_list_nth_data(GST_ELEMENT_CAST(proxy)->sinkpads, index));
  if (pad) g_object_ref(pad);
  GST_OBJECT_UNLOCK(proxy);
  return pad;
}

static GObject* gst_cf_realtime_sink_child_by_name(GstChildProxy* proxy, const gchar* name) {
  return reinterpret_cast<GObject*>(gst_element_get_static_pad(GST_ELEMENT_CAST(proxy), name));
}

static guint gst_cf_realtime_sink_children_count(GstChildProxy* proxy) {
  GST_OBJECT_LOCK(proxy);
  guint count = GST_ELEMENT_CAST(proxy)->numsinkpads;
  GST_OBJECT_UNLOCK(proxy);
  return count;
}

static void gst_cf_realtime_sink_child_proxy_init(gpointer g_iface, gpointer) {
  auto* iface = static_cast<GstChildProxyInterface*>(g_iface);
  iface->get_child_by_index = gst_cf_realtime_sink_child_by_index;
  iface->get_child_by_name = gst_cf_realtime_sink_child_by_name;
  iface->get_children_count = gst_cf_realtime_sink_children_count;
}

static GstPad* gst_cf_realtime_sink_request_new_pad(GstElement* element, GstPadTemplate* templ,
                                                    const gchar* name, const GstCaps*) {
  return state_of(element)->request_pad(templ, name);
}

static void gst_cf_realtime_sink_release_pad(GstElement* element, GstPad* pad) {
  state_of(element)->release_pad(pad);
}

static void gst_cf_realtime_sink_get_property(GObject* object, guint id, GValue* value,
                                              GParamSpec* pspec) {
  if (id == PROP_SESSION_ID) {
    std::string session_id = state_of(object)->session_id();
    g_value_set_string(value, session_id.empty() ? nullptr : session_id.c_str());
  } else {
    G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
  }
}

static void gst_cf_realtime_sink_init(GstCfRealtimeSink* self) {
  gst_bin_set_suppressed_flags(GST_BIN(self),
                               GstElementFlags(GST_ELEMENT_FLAG_SOURCE | GST_ELEMENT_FLAG_SINK));
  GST_OBJECT_FLAG_SET(self, GST_ELEMENT_FLAG_SINK);
  GST_CF_REALTIME_BASE(self)->state = new SinkState(GST_CF_REALTIME_BASE(self));
}

// What upstream alone can tell or do. webrtcbin, the only sink inside, is linked to it only while
// there is a connection.
static gboolean gst_cf_realtime_sink_send_event(GstElement* element, GstEvent* event) {
  if (GST_EVENT_TYPE(event) != GST_EVENT_SEEK)
    return GST_ELEMENT_CLASS(gst_cf_realtime_sink_parent_class)->send_event(element, event);
  gboolean done = FALSE;
  for (auto& pad : state_of(element)->sink_pads())
    done = gst_pad_push_event(pad.get(), gst_event_ref(event)) || done;
  gst_event_unref(event);
  return done;
}

// What comes is sent as it comes, whatever the clock says, so nothing is added to what is said
// upstream: the same as from a GstBaseSink with sync=false.
static void answer_latency(GstElement* element, GstQuery* query) {
  gboolean live = FALSE;
  GstClockTime min = 0, max = GST_CLOCK_TIME_NONE;
  for (auto& pad : state_of(element)->sink_pads()) {
    g_autoptr(GstQuery) upstream = gst_query_new_latency();
    gboolean pad_live = FALSE;
    GstClockTime pad_min = 0, pad_max = 0;
    if (!gst_pad_peer_query(pad.get(), upstream)) continue;
    gst_query_parse_latency(upstream, &pad_live, &pad_min, &pad_max);
    if (!pad_live) continue;
    live = TRUE;
    min = std::max(min, pad_min);
    max = std::min(max, pad_max);  // none is the largest
  }
  gst_query_set_latency(query, live, min, max);
}

static gboolean gst_cf_realtime_sink_query(GstElement* element, GstQuery* query) {
  switch (GST_QUERY_TYPE(query)) {
    case GST_QUERY_LATENCY: answer_latency(element, query); return TRUE;
    case GST_QUERY_POSITION:
    case GST_QUERY_DURATION:
    case GST_QUERY_SEEKING:
      for (auto& pad : state_of(element)->sink_pads())
        if (gst_pad_peer_query(pad.get(), query)) return TRUE;
      return FALSE;
    default: return GST_ELEMENT_CLASS(gst_cf_realtime_sink_parent_class)->query(element, query);
  }
}

static void gst_cf_realtime_sink_class_init(GstCfRealtimeSinkClass* klass) {
  GObjectClass* object_class = G_OBJECT_CLASS(klass);
  GstElementClass* element_class = GST_ELEMENT_CLASS(klass);
  GST_DEBUG_CATEGORY_INIT(cf_realtime_sink_debug, "cfrealtimesink", 0, "Cloudflare Realtime sink");
  object_class->get_property = gst_cf_realtime_sink_get_property;
  element_class->send_event = gst_cf_realtime_sink_send_event;
  element_class->query = gst_cf_realtime_sink_query;
  element_class->request_new_pad = gst_cf_realtime_sink_request_new_pad;
  element_class->release_pad = gst_cf_realtime_sink_release_pad;

  /**
   * GstCfRealtimeSink:session-id:
   *
   * Id of the session that the tracks are published in; what a viewer needs. NULL while there is
   * none. Notifies: a rebuilt connection has a new one.
   */
  g_object_class_install_property(
      object_class, PROP_SESSION_ID,
      g_param_spec_string("session-id", "Session id",
                          "Session that the tracks are published in, for cfrealtimesrc session-id; "
                          "notifies, since a rebuilt connection has a new one",
                          nullptr, GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)));

  GType type = G_TYPE_FROM_CLASS(klass);
  /**
   * GstCfRealtimeSink::session-created:
   * @session_id: the new session
   *
   * A session exists at the SFU. Emitted on a thread of the element.
   */
  signals[SIGNAL_SESSION_CREATED] =
      g_signal_new("session-created", type, G_SIGNAL_RUN_LAST, 0, nullptr, nullptr, nullptr,
                   G_TYPE_NONE, 1, G_TYPE_STRING);
  /**
   * GstCfRealtimeSink::track-live:
   * @track_name: its name
   * @mid: its media section
   *
   * The first packets of the track have left: viewers can pull it now. Emitted on a thread of the
   * element.
   */
  signals[SIGNAL_TRACK_LIVE] =
      g_signal_new("track-live", type, G_SIGNAL_RUN_LAST, 0, nullptr, nullptr, nullptr, G_TYPE_NONE,
                   2, G_TYPE_STRING, G_TYPE_STRING);
  /**
   * GstCfRealtimeSink::track-closed:
   * @track_name: its name
   *
   * The SFU has closed the track at our wish. Emitted on a thread of the element.
   */
  signals[SIGNAL_TRACK_CLOSED] = g_signal_new("track-closed", type, G_SIGNAL_RUN_LAST, 0, nullptr,
                                              nullptr, nullptr, G_TYPE_NONE, 1, G_TYPE_STRING);

  for (MediaKind kind : {MediaKind::video, MediaKind::audio}) {
    cfr::gref<GstCaps> caps = cfr::sendable_caps(kind);
    gst_element_class_add_pad_template(
        element_class, gst_pad_template_new_with_gtype(
                           kind == MediaKind::video ? "video_%u" : "audio_%u", GST_PAD_SINK,
                           GST_PAD_REQUEST, caps.get(), GST_TYPE_CF_REALTIME_PAD));
  }
  gst_element_class_set_static_metadata(
      element_class, "Cloudflare Realtime sink", "Sink/Network/WebRTC",
      "Publishes audio and video, raw (encoded for live use), encoded or RTP, to the Cloudflare "
      "Realtime SFU",
      "The cfrealtime authors");
}
