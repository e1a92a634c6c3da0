// The Negotiator, step by input. Actions are compared as text: "create-session; create-offer 1".
#include "negotiation/negotiator.h"

#include <gtest/gtest.h>

#include "util/overloaded.h"

namespace cfr {
namespace {

std::string text(const Action& action) {
  return std::visit(
      Overloaded{
          [](const action::CreateSession&) { return std::string("create-session"); },
          [](const action::NewPeer&) { return std::string("new-peer"); },
          [](const action::CreateOffer& a) {
            std::string s = "create-offer";
            for (TrackId id : a.tracks) s += " " + std::to_string(id);
            return s;
          },
          [](const action::PostTracks& a) {
            std::string s = "post " + a.session_id;
            if (a.request.description) s += " " + a.request.description->sdp;
            for (const TrackObject& t : a.request.tracks)
              s += t.location == Location::local ? " " + t.mid + "=" + t.track_name
                                                 : " " + t.session_id + "/" + t.track_name;
            return s;
          },
          [](const action::SetRemote& a) {
            return std::string("set-") +
                   (a.description.type == SdpType::offer ? "offer" : "answer");
          },
          [](const action::CreateAnswer&) { return std::string("create-answer"); },
          [](const action::PutAnswer& a) { return "put " + a.session_id + " " + a.sdp; },
          [](const action::CloseTracks& a) {
            std::string s = "close " + a.session_id;
            for (const std::string& mid : a.mids) s += " " + mid;
            return s;
          },
          [](const action::StartTimer&) { return std::string("timer"); },
          [](const action::StopTimer&) { return std::string("stop-timer"); },
          [](const action::SessionChanged& a) { return "session '" + a.session_id + "'"; },
          [](const action::MapMid& a) { return "map " + a.mid + "=" + std::to_string(a.track); },
          [](const action::TrackLive& a) {
            return "live " + std::to_string(a.track) + "@" + a.mid;
          },
          [](const action::TrackClosed& a) { return "closed " + std::to_string(a.track); },
          [](const action::TrackFailed& a) {
            EXPECT_NE(a.error.message, "");
            EXPECT_NE(a.error.track, "");
            return "failed " + std::to_string(a.track) + " " + to_string(a.error.kind) +
                   (a.retrying ? " retrying" : "");
          },
          [](const action::Reconnecting& a) {
            return std::string("reconnecting ") + to_string(a.cause.kind) + " " +
                   std::to_string(a.attempt);
          },
          [](const action::Fail& a) { return std::string("fail ") + to_string(a.error.kind); },
      },
      action);
}

std::string text(const Actions& actions) {
  std::string all;
  for (const Action& action : actions) all += (all.empty() ? "" : "; ") + text(action);
  return all;
}

uint32_t delay(const Actions& actions) {
  for (const Action& action : actions)
    if (auto* timer = std::get_if<action::StartTimer>(&action)) return timer->delay_ms;
  return 0;
}

Error error(ErrorKind kind, int status = 0, std::string code = "") {
  Error error;
  error.kind = kind;
  error.http_status = status;
  error.code = std::move(code);
  error.message = "It did not work.";
  return error;
}

NewSessionReply session(std::string id) {
  return {{}, std::move(id), {}};
}

Negotiator::Offer offer(std::map<TrackId, std::string> mids) {
  return {"OFFER", std::move(mids)};
}

TrackObject item(std::string name, std::string mid, std::string code = "") {
  TrackObject track;
  track.track_name = std::move(name);
  track.mid = std::move(mid);
  track.error.code = std::move(code);
  return track;
}

TracksReply answered(std::vector<TrackObject> tracks) {
  return {{}, false, SessionDescription{SdpType::answer, "ANSWER"}, std::move(tracks)};
}
TracksReply offered(std::vector<TrackObject> tracks) {
  for (TrackObject& track : tracks) track.session_id = "P";
  return {{}, true, SessionDescription{SdpType::offer, "SFU-OFFER"}, std::move(tracks)};
}
TracksReply bare(std::vector<TrackObject> tracks) {
  for (TrackObject& track : tracks) track.session_id = "P";
  return {{}, false, {}, std::move(tracks)};
}

class NegotiatorTest : public testing::Test {
 protected:
  static NegotiatorSettings settings(int max_retries = -1) {
    NegotiatorSettings settings;
    settings.max_retries = max_retries;
    settings.seed = 7;
    return settings;
  }

  // Track 1, "a", is published and live in session S, the peer connected.
  void publish_live(int max_retries = -1) {
    n = Negotiator(settings(max_retries));
    EXPECT_EQ(text(n.publish(1, "a")), "create-session; create-offer 1");
    EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'");
    EXPECT_EQ(text(n.on_offer(offer({{1, "0"}}))), "post S OFFER 0=a");
    EXPECT_EQ(text(n.on_tracks(answered({item("a", "0")}))), "set-answer");
    EXPECT_EQ(text(n.on_remote_set(Done{})), "live 1@0");
    EXPECT_EQ(text(n.on_connection(PeerState::connected)), "");
  }
  // Track 1, "a" of publisher P, is pulled and live in session S, the peer connected.
  void pull_live(int max_retries = -1) {
    n = Negotiator(settings(max_retries));
    EXPECT_EQ(text(n.subscribe(1, "P", "a")), "create-session");
    EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'; post S P/a");
    EXPECT_EQ(text(n.on_tracks(offered({item("a", "0")}))), "map 0=1; set-offer");
    EXPECT_EQ(text(n.on_remote_set(Done{})), "create-answer");
    EXPECT_EQ(text(n.on_answer(std::string("ANSWER"))), "put S ANSWER");
    EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "live 1@0");
    EXPECT_EQ(text(n.on_connection(PeerState::connected)), "");
  }

  Negotiator n{settings()};
};

// --- the straight ways ---------------------------------------------------------------------

TEST_F(NegotiatorTest, SessionAndOfferAreMadeAtTheSameTime) {
  publish_live();
  EXPECT_EQ(n.session_id(), "S");
  EXPECT_EQ(n.open_mids(), std::vector<std::string>{"0"});
}

TEST_F(NegotiatorTest, TheOfferMayBeReadyBeforeTheSession) {
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.on_offer(offer({{1, "0"}}))), "");
  EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'; post S OFFER 0=a");
}

TEST_F(NegotiatorTest, WantsThatCameMeanwhileGoIntoTheNextExchange) {
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.publish(2, "b")), "");
  EXPECT_EQ(text(n.publish(3, "c")), "");
  (void)n.on_session(session("S"));
  EXPECT_EQ(text(n.on_offer(offer({{1, "0"}}))), "post S OFFER 0=a");
  (void)n.on_tracks(answered({item("a", "0")}));
  EXPECT_EQ(text(n.on_remote_set(Done{})), "live 1@0; create-offer 1 2 3");
  EXPECT_EQ(text(n.on_offer(offer({{1, "0"}, {2, "1"}, {3, "2"}}))), "post S OFFER 1=b 2=c");
  EXPECT_EQ(text(n.on_tracks(answered({item("c", "2"), item("b", "1")}))), "set-answer");
  EXPECT_EQ(text(n.on_remote_set(Done{})), "live 2@1; live 3@2");
}

TEST_F(NegotiatorTest, PullsAreMappedBeforeTheOfferIsApplied) {
  pull_live();
  EXPECT_EQ(text(n.subscribe(2, "Q", "b")), "post S Q/b");
  EXPECT_EQ(text(n.subscribe(3, "P", "c")), "");
  TracksReply reply = offered({item("b", "1")});
  reply.tracks[0].session_id = "Q";
  EXPECT_EQ(text(n.on_tracks(reply)), "map 1=2; set-offer");
  (void)n.on_remote_set(Done{});
  (void)n.on_answer(std::string("A2"));
  EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "live 2@1; post S P/c");
}

TEST_F(NegotiatorTest, PushesAndPullsNeverShareARequest) {
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.subscribe(2, "P", "b")), "");
  (void)n.on_session(session("S"));
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.on_tracks(answered({item("a", "0")}));
  EXPECT_EQ(text(n.on_remote_set(Done{})), "live 1@0; post S P/b");
}

TEST_F(NegotiatorTest, ARequestHasAtMost32Tracks) {
  for (TrackId id = 1; id <= 70; ++id) (void)n.subscribe(id, "P", "t" + std::to_string(id));
  std::size_t total = 0;
  Actions actions = n.on_session(session("S"));
  for (int round = 0; round < 3; ++round) {
    const auto& post = std::get<action::PostTracks>(actions.back());
    std::vector<TrackObject> items;
    for (const TrackObject& track : post.request.tracks)
      items.push_back(item(track.track_name, track.track_name));
    EXPECT_LE(items.size(), 32u);
    total += items.size();
    (void)n.on_tracks(offered(items));
    (void)n.on_remote_set(Done{});
    (void)n.on_answer(std::string("A"));
    actions = n.on_answer_put(RenegotiateReply{});
  }
  EXPECT_EQ(total, 70u);
  EXPECT_EQ(n.open_mids().size(), 70u);
}

TEST_F(NegotiatorTest, APullThatNeedsNoNewSectionIsLiveAtOnce) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "5")}))), "map 5=2; live 2@5");
}

TEST_F(NegotiatorTest, AnOfferIsAnsweredEvenIfTheFlagSaysNothing) {
  (void)n.subscribe(1, "P", "a");
  (void)n.on_session(session("S"));
  TracksReply reply = offered({item("a", "0")});
  reply.requires_immediate_renegotiation = false;
  EXPECT_EQ(text(n.on_tracks(reply)), "map 0=1; set-offer");
}

TEST_F(NegotiatorTest, TheSameWantTwiceIsOneWant) {
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.publish(1, "a")), "");
  EXPECT_EQ(text(n.subscribe(1, "P", "x")), "");
}

// --- tracks that fail ------------------------------------------------------------------------

TEST_F(NegotiatorTest, APullThatIsNotThereYetWaitsWhileOthersGoOn) {
  (void)n.subscribe(1, "P", "a");
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'; post S P/a P/b");
  EXPECT_EQ(text(n.on_tracks(offered({item("a", "0"), item("b", "", "not_found_track_error")}))),
            "map 0=1; failed 2 not-yet retrying; set-offer");
  (void)n.on_remote_set(Done{});
  (void)n.on_answer(std::string("A"));
  Actions actions = n.on_answer_put(RenegotiateReply{});
  EXPECT_EQ(text(actions), "live 1@0; timer");
  EXPECT_LE(delay(actions), 300u);
  EXPECT_EQ(text(n.on_timer()), "post S P/b");
  // The same state of affairs is not told again; another one is.
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "not_found_track_error")}))), "timer");
  (void)n.on_timer();
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "empty_track_error")}))),
            "failed 2 not-yet retrying; timer");
  (void)n.on_timer();
  EXPECT_EQ(text(n.on_tracks(offered({item("b", "1")}))), "map 1=2; set-offer");
}

TEST_F(NegotiatorTest, WaitingForAPublisherBacksOffAndANewWantStartsAnew) {
  (void)n.subscribe(1, "P", "a");
  (void)n.on_session(session("S"));
  uint32_t last = 0;
  for (int i = 0; i < 12; ++i) {
    last = delay(n.on_tracks(bare({item("a", "", "empty_track_error")})));
    ASSERT_GT(last, 0u);
    EXPECT_EQ(text(n.on_timer()), "post S P/a");
  }
  EXPECT_GE(last, 24000u);
  EXPECT_LE(last, 36000u);
  (void)n.on_tracks(bare({item("a", "", "empty_track_error")}));
  EXPECT_EQ(text(n.subscribe(2, "P", "b")), "post S P/b");
  EXPECT_LE(delay(n.on_tracks(bare({item("b", "", "not_found_track_error")}))), 300u);
  EXPECT_EQ(text(n.on_timer()), "post S P/a P/b");
}

TEST_F(NegotiatorTest, NewWantsDoNotWaitWithThoseThatWereNotThere) {
  (void)n.subscribe(1, "P", "a");
  (void)n.on_session(session("S"));
  (void)n.on_tracks(bare({item("a", "", "empty_track_error")}));
  (void)n.on_timer();
  (void)n.subscribe(2, "P", "b");
  // The SFU holds a request for seconds when a track has no media.
  EXPECT_EQ(text(n.on_tracks(bare({item("a", "", "empty_track_error")}))), "post S P/b; timer");
}

TEST_F(NegotiatorTest, AnItemWithoutMidIsNotTakenForASuccess) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "")}))), "failed 2 server retrying; timer");
  EXPECT_EQ(n.open_mids(), std::vector<std::string>{"0"});
}

TEST_F(NegotiatorTest, AReplyThatLacksATrackFailsIt) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  (void)n.on_answer_put(RenegotiateReply{});  // not waited for
  EXPECT_EQ(text(n.on_tracks(bare({item("stranger", "9")}))), "failed 2 protocol");
}

TEST_F(NegotiatorTest, ErrorsOfTheSfusOwnAreRetriedForEver) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "internal_error")}))),
            "failed 2 server retrying; timer");
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(text(n.on_timer()), "post S P/b");
    EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "internal_error")}))), "timer");
  }
}

TEST_F(NegotiatorTest, ErrorsOfTheSfusOwnAreRetriedAsOftenAsIsAllowed) {
  pull_live(2);
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "internal_error")}))),
            "failed 2 server retrying; timer");
  EXPECT_EQ(text(n.on_timer()), "post S P/b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "internal_error")}))), "timer");
  EXPECT_EQ(text(n.on_timer()), "post S P/b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "internal_error")}))), "failed 2 server");
  EXPECT_EQ(text(n.drop(2)), "") << "forgotten";
}

TEST_F(NegotiatorTest, ATrackWithoutSectionOrReasonIsRetriedFiveTimes) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "")}))), "failed 2 server retrying; timer");
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(text(n.on_timer()), "post S P/b");
    EXPECT_EQ(text(n.on_tracks(bare({item("b", "")}))), "timer");
  }
  EXPECT_EQ(text(n.on_timer()), "post S P/b");
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "")}))), "failed 2 server");
}

TEST_F(NegotiatorTest, ARenewalOfOursIsNoRetry) {
  publish_live(0);
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::cancelled))),
            "new-peer; session ''; reconnecting cancelled 1; timer");
  EXPECT_EQ(text(n.on_timer()), "create-session; create-offer 1");
}

TEST_F(NegotiatorTest, ARefusedPushFailsAloneAndTheAnswerIsAppliedAllTheSame) {
  (void)n.publish(1, "a");
  (void)n.on_session(session("S"));
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.publish(2, "a2");
  (void)n.on_tracks(answered({item("a", "0")}));
  (void)n.on_remote_set(Done{});
  (void)n.on_offer(offer({{1, "0"}, {2, "1"}}));
  EXPECT_EQ(text(n.on_tracks(answered({item("a2", "", "repeated_local_track_error")}))),
            "failed 2 rejected; set-answer");
  EXPECT_EQ(text(n.on_remote_set(Done{})), "");
  EXPECT_EQ(n.open_mids(), std::vector<std::string>{"0"});
}

TEST_F(NegotiatorTest, ARefusedPushWithoutAnAnswerCostsThePeer) {
  (void)n.publish(1, "a");
  (void)n.on_session(session("S"));
  (void)n.on_offer(offer({{1, "0"}}));
  EXPECT_EQ(text(n.on_tracks(bare({item("a", "", "internal_error")}))),
            "failed 1 server retrying; timer");
  EXPECT_EQ(text(n.on_timer()), "new-peer; session ''; create-session; create-offer 1");
}

TEST_F(NegotiatorTest, AnAnswerThatTakesNothingFailsItsTracksAndCostsThePeer) {
  (void)n.publish(1, "a");
  (void)n.on_session(session("S"));
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.publish(2, "b");
  (void)n.on_tracks(answered({item("a", "0")}));
  Error refused;
  refused.kind = ErrorKind::rejected;
  refused.message = "no codec";
  EXPECT_EQ(text(n.on_remote_set(refused)),
            "failed 1 rejected; new-peer; session ''; create-session; create-offer 2");
  (void)n.on_session(session("T"));
  (void)n.on_offer(offer({{2, "0"}}));
  (void)n.on_tracks(answered({item("b", "0")}));
  EXPECT_EQ(text(n.on_remote_set(refused)), "failed 2 rejected") << "the last one, too";
}

TEST_F(NegotiatorTest, ATrackThatWebrtcbinDidNotOfferFails) {
  (void)n.publish(1, "a");
  (void)n.on_session(session("S"));
  EXPECT_EQ(text(n.on_offer(offer({}))), "failed 1 peer");
}

// --- dropping --------------------------------------------------------------------------------

TEST_F(NegotiatorTest, ADroppedWantIsForgotten) {
  (void)n.subscribe(1, "P", "a");
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.drop(1)), "closed 1");
  EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'; post S P/b");
  (void)n.on_tracks(bare({item("b", "", "empty_track_error")}));
  EXPECT_EQ(text(n.drop(2)), "closed 2");
  EXPECT_EQ(text(n.on_timer()), "");
  EXPECT_EQ(text(n.drop(77)), "");
}

TEST_F(NegotiatorTest, ATrackDroppedInFlightIsClosedAfterTheExchange) {
  (void)n.subscribe(1, "P", "a");
  (void)n.subscribe(2, "P", "b");
  (void)n.on_session(session("S"));
  EXPECT_EQ(text(n.drop(1)), "");
  EXPECT_EQ(text(n.on_tracks(offered({item("a", "0"), item("b", "1")}))), "map 1=2; set-offer");
  (void)n.on_remote_set(Done{});
  (void)n.on_answer(std::string("A"));
  EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "live 2@1; close S 0");
  EXPECT_EQ(text(n.on_closed(bare({item("", "0")}))), "closed 1");
  EXPECT_EQ(n.open_mids(), std::vector<std::string>{"1"});
}

TEST_F(NegotiatorTest, ADroppedTrackThatFailedInFlightIsGone) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  (void)n.drop(2);
  EXPECT_EQ(text(n.on_tracks(bare({item("b", "", "empty_track_error")}))), "closed 2");
}

TEST_F(NegotiatorTest, AnOfferThatNobodyWantsAnyMoreIsNotPosted) {
  (void)n.publish(1, "a");
  (void)n.drop(1);
  (void)n.on_offer(offer({{1, "0"}}));
  EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'; closed 1");
  EXPECT_EQ(text(n.publish(2, "b")), "new-peer; session ''; create-session; create-offer 2");
}

TEST_F(NegotiatorTest, AnOfferThatNobodyWantsAnyMoreDoesNotHinderAClose) {
  (void)n.publish(1, "a");
  (void)n.publish(2, "b");
  (void)n.on_session(session("S"));
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.drop(1);
  (void)n.on_tracks(answered({item("a", "0")}));
  EXPECT_EQ(text(n.on_remote_set(Done{})), "create-offer 2");
  (void)n.drop(2);
  EXPECT_EQ(text(n.on_offer(offer({{2, "1"}}))), "closed 2; close S 0");
  EXPECT_EQ(text(n.publish(3, "c")), "");
  EXPECT_EQ(text(n.on_closed(bare({item("", "0")}))),
            "closed 1; new-peer; session ''; create-session; create-offer 3");
}

TEST_F(NegotiatorTest, ClosesAreBatchedAndFollowWants) {
  publish_live();
  (void)n.publish(2, "b");
  EXPECT_EQ(text(n.drop(1)), "");
  (void)n.on_offer(offer({{1, "0"}, {2, "1"}}));
  (void)n.on_tracks(answered({item("b", "1")}));
  EXPECT_EQ(text(n.on_remote_set(Done{})), "live 2@1; close S 0");
  EXPECT_EQ(text(n.publish(3, "c")), "");
  EXPECT_EQ(text(n.on_closed(bare({item("", "0")}))), "closed 1; create-offer 2 3");
}

TEST_F(NegotiatorTest, ANameIsPublishedAgainOnlyAfterItWasClosed) {
  publish_live();
  (void)n.publish(2, "b");
  (void)n.on_offer(offer({{1, "0"}, {2, "1"}}));
  (void)n.on_tracks(answered({item("b", "1")}));
  (void)n.on_remote_set(Done{});
  EXPECT_EQ(text(n.drop(1)), "close S 0");
  EXPECT_EQ(text(n.publish(3, "a")), "");
  EXPECT_EQ(text(n.on_closed(bare({item("", "0")}))), "closed 1; create-offer 2 3");
}

TEST_F(NegotiatorTest, AnEmptiedSessionIsNotUsedAgain) {
  pull_live();
  EXPECT_EQ(text(n.drop(1)), "close S 0");
  EXPECT_EQ(text(n.on_closed(bare({item("", "0")}))), "closed 1");
  EXPECT_EQ(n.session_id(), "S");
  EXPECT_EQ(text(n.subscribe(2, "P", "b")), "new-peer; session ''; create-session");
  EXPECT_EQ(text(n.on_session(session("T"))), "session 'T'; post T P/b");
}

TEST_F(NegotiatorTest, AlreadyClosedAndGoneCountAsClosed) {
  pull_live();
  (void)n.drop(1);
  EXPECT_EQ(text(n.on_closed(bare({item("", "0", "close_track_error")}))), "closed 1");
}

TEST_F(NegotiatorTest, AGoneSessionOnCloseIsFoundOutForTheOthersToo) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  (void)n.on_tracks(offered({item("b", "1")}));
  (void)n.on_remote_set(Done{});
  (void)n.on_answer(std::string("A"));
  (void)n.on_answer_put(RenegotiateReply{});
  (void)n.drop(1);
  EXPECT_EQ(text(n.on_closed(error(ErrorKind::gone, 410))),
            "closed 1; new-peer; session ''; reconnecting gone 1; timer");
  EXPECT_EQ(text(n.on_timer()), "create-session");
}

TEST_F(NegotiatorTest, AGoneSessionOnCloseOfTheLastTrackIsNoLoss) {
  pull_live();
  (void)n.drop(1);
  EXPECT_EQ(text(n.on_closed(error(ErrorKind::gone, 404))), "closed 1");
}

TEST_F(NegotiatorTest, AGoneSessionIsNotUsedForWhatIsStillToBeClosed) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  (void)n.on_tracks(bare({item("b", "1")}));
  (void)n.drop(1);
  (void)n.drop(2);
  (void)n.subscribe(3, "P", "c");
  EXPECT_EQ(text(n.on_closed(error(ErrorKind::gone, 410))),
            "closed 1; closed 2; new-peer; session ''; create-session");
}

TEST_F(NegotiatorTest, AFailedCloseIsRepeatedThreeTimes) {
  pull_live();
  (void)n.drop(1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(text(n.on_closed(error(i ? ErrorKind::timeout : ErrorKind::server))), "timer");
    EXPECT_EQ(n.open_mids(), std::vector<std::string>{"0"});
    EXPECT_EQ(text(n.on_timer()), "close S 0");
  }
  EXPECT_EQ(text(n.on_closed(error(ErrorKind::server))), "closed 1");
}

TEST_F(NegotiatorTest, OnlyTheItemsThatFailedAreClosedAgain) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  (void)n.on_tracks(offered({item("b", "1")}));
  (void)n.on_remote_set(Done{});
  (void)n.drop(1);
  (void)n.drop(2);
  (void)n.on_answer(std::string("A"));
  EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "close S 0 1");
  EXPECT_EQ(text(n.on_closed(bare({item("", "0"), item("", "1", "internal_error")}))),
            "closed 1; timer");
  EXPECT_EQ(text(n.on_timer()), "close S 1");
  EXPECT_EQ(text(n.on_closed(bare({item("", "1")}))), "closed 2");
}

// --- losing the session ----------------------------------------------------------------------

TEST_F(NegotiatorTest, ALostSessionIsReplacedAndAllTracksWithIt) {
  publish_live();
  Actions actions = n.on_connection(PeerState::failed);
  EXPECT_EQ(text(actions), "new-peer; session ''; reconnecting unreachable 1; timer");
  EXPECT_LE(delay(actions), 300u);
  EXPECT_EQ(n.session_id(), "");
  EXPECT_EQ(n.open_mids(), std::vector<std::string>{});
  EXPECT_EQ(text(n.publish(2, "b")), "") << "it goes along";
  EXPECT_EQ(text(n.on_timer()), "create-session; create-offer 1 2");
  (void)n.on_session(session("T"));
  EXPECT_EQ(text(n.on_offer(offer({{1, "0"}, {2, "1"}}))), "post T OFFER 0=a 1=b");
}

TEST_F(NegotiatorTest, ADroppedTrackIsClosedWithItsSession) {
  pull_live();
  (void)n.drop(1);
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::gone))), "closed 1; new-peer; session ''");
  EXPECT_EQ(text(n.subscribe(2, "P", "b")), "create-session");
}

TEST_F(NegotiatorTest, TheDelayGrowsUntilMediaCouldFlowAgain) {
  publish_live();
  uint32_t last = delay(n.on_session_lost(error(ErrorKind::gone)));
  for (int i = 0; i < 3; ++i) {
    (void)n.on_timer();
    (void)n.on_session(session("T"));
    (void)n.on_offer(offer({{1, "0"}}));
    (void)n.on_tracks(answered({item("a", "0")}));
    (void)n.on_remote_set(Done{});  // negotiated, but never connected
    uint32_t next = delay(n.on_connection(PeerState::failed));
    EXPECT_GT(next, last);
    last = next;
  }
  (void)n.on_timer();
  (void)n.on_session(session("U"));
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.on_tracks(answered({item("a", "0")}));
  (void)n.on_connection(PeerState::connected);
  (void)n.on_remote_set(Done{});
  EXPECT_LE(delay(n.on_connection(PeerState::failed)), 300u);
}

TEST_F(NegotiatorTest, LossBeforeThereIsASessionIsNoNews) {
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::gone))), "");
  EXPECT_EQ(text(n.on_connection(PeerState::failed)), "");
  publish_live();
  (void)n.on_session_lost(error(ErrorKind::gone));
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::gone))), "");
  EXPECT_EQ(text(n.on_connection(PeerState::failed)), "");
}

TEST_F(NegotiatorTest, ABrokenWebrtcbinWhileStartingIsReplaced) {
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::peer))),
            "new-peer; reconnecting peer 1; timer");
  EXPECT_EQ(text(n.on_session(session("late"))), "") << "nobody waits for it any more";
  EXPECT_EQ(text(n.on_timer()), "create-session; create-offer 1");
}

TEST_F(NegotiatorTest, ResultsNobodyWaitsForAreIgnored) {
  auto ignores_all = [this] {
    EXPECT_EQ(text(n.on_session(session("X"))), "");
    EXPECT_EQ(text(n.on_offer(offer({{1, "9"}}))), "");
    EXPECT_EQ(text(n.on_tracks(answered({item("a", "9")}))), "");
    EXPECT_EQ(text(n.on_remote_set(Done{})), "");
    EXPECT_EQ(text(n.on_answer(std::string("A"))), "");
    EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "");
    EXPECT_EQ(text(n.on_closed(bare({}))), "");
    EXPECT_EQ(text(n.on_timer()), "");
    EXPECT_EQ(text(n.on_session(error(ErrorKind::server))), "");
    EXPECT_EQ(text(n.on_tracks(error(ErrorKind::gone))), "");
  };
  ignores_all();
  publish_live();
  ignores_all();
  EXPECT_EQ(n.session_id(), "S");
}

// --- errors at every step --------------------------------------------------------------------

struct Row {
  ErrorKind kind;
  int status;
  const char* code;
  const char* expected;
};

TEST_F(NegotiatorTest, ErrorsOfTheFirstCreateSession) {
  const Row table[] = {
      {ErrorKind::config, 0, "", "fail config"},
      {ErrorKind::unauthorized, 401, "unauthorized", "fail unauthorized"},
      {ErrorKind::gone, 404, "not_found", "fail gone"},
      {ErrorKind::rejected, 400, "decoding_error", "fail rejected"},
      {ErrorKind::protocol, 200, "", "fail protocol"},
      {ErrorKind::busy, 429, "", "reconnecting busy 1; timer"},
      {ErrorKind::server, 503, "", "reconnecting server 1; timer"},
      {ErrorKind::unreachable, 0, "", "reconnecting unreachable 1; timer"},
      {ErrorKind::timeout, 0, "", "reconnecting timeout 1; timer"},
      {ErrorKind::not_yet, 503, "transport_unavailable_error", "reconnecting not-yet 1; timer"},
  };
  for (const Row& row : table) {
    n = Negotiator(settings());
    (void)n.publish(1, "a");
    (void)n.on_offer(offer({{1, "0"}}));
    EXPECT_EQ(text(n.on_session(error(row.kind, row.status, row.code))), row.expected);
    if (std::string(row.expected).substr(0, 4) == "fail") {
      EXPECT_EQ(text(n.on_timer()) + text(n.publish(2, "b")) + text(n.drop(1)), "");
    } else {
      EXPECT_EQ(text(n.on_timer()), "create-session") << "the offer is still good";
      EXPECT_EQ(text(n.on_session(session("S"))), "session 'S'; post S OFFER 0=a");
    }
  }
}

TEST_F(NegotiatorTest, ErrorsOfTheFirstPush) {
  const char* const lost = "new-peer; session ''; reconnecting ";
  const Row table[] = {
      {ErrorKind::config, 0, "", "fail config"},
      {ErrorKind::unauthorized, 401, "", "fail unauthorized"},
      {ErrorKind::gone, 410, "session_error", "gone"},
      {ErrorKind::rejected, 400, "decoding_error", "fail rejected"},
      {ErrorKind::rejected, 406, "invalid_session_description", "fail rejected"},
      {ErrorKind::protocol, 200, "", "fail protocol"},
      {ErrorKind::busy, 429, "", "repeat"},
      {ErrorKind::busy, 425, "session_error", "repeat"},
      {ErrorKind::unreachable, 0, "", "repeat"},
      {ErrorKind::server, 500, "internal_error", "server"},
      {ErrorKind::timeout, 0, "", "timeout"},
      {ErrorKind::cancelled, 0, "", "cancelled"},
      {ErrorKind::not_yet, 503, "transport_unavailable_error", "not-yet"},
  };
  for (const Row& row : table) {
    n = Negotiator(settings());
    (void)n.publish(1, "a");
    (void)n.on_offer(offer({{1, "0"}}));
    (void)n.on_session(session("S"));
    std::string actions = text(n.on_tracks(error(row.kind, row.status, row.code)));
    if (std::string(row.expected) == "repeat") {
      EXPECT_EQ(actions, std::string("reconnecting ") + to_string(row.kind) + " 1; timer");
      EXPECT_EQ(text(n.on_timer()), "post S OFFER 0=a");
      EXPECT_EQ(text(n.on_tracks(answered({item("a", "0")}))), "set-answer");
    } else if (std::string(row.expected).substr(0, 4) == "fail") {
      EXPECT_EQ(actions, row.expected);
    } else {
      EXPECT_EQ(actions, lost + std::string(row.expected) + " 1; timer");
      EXPECT_EQ(text(n.on_timer()), "create-session; create-offer 1");
    }
  }
}

TEST_F(NegotiatorTest, ErrorsOfTheFirstPull) {
  const Row table[] = {
      {ErrorKind::unauthorized, 403, "", "fail unauthorized"},
      {ErrorKind::rejected, 406, "invalid_params", "fail rejected"},
      {ErrorKind::protocol, 200, "", "fail protocol"},
      {ErrorKind::busy, 429, "", "reconnecting busy 1; timer"},
      {ErrorKind::unreachable, 0, "", "reconnecting unreachable 1; timer"},
      {ErrorKind::server, 500, "internal_error", "reconnecting server 1; timer"},
  };
  for (const Row& row : table) {
    n = Negotiator(settings());
    (void)n.subscribe(1, "P", "a");
    (void)n.on_session(session("S"));
    EXPECT_EQ(text(n.on_tracks(error(row.kind, row.status, row.code))), row.expected);
    if (std::string(row.expected).substr(0, 4) == "fail") continue;
    EXPECT_EQ(text(n.on_timer()), "post S P/a");
  }
  // Lost or in conflict: the SFU may have an offer open.
  for (Error cause : {error(ErrorKind::timeout),
                      error(ErrorKind::rejected, 406, "invalid_session_description")}) {
    n = Negotiator(settings());
    (void)n.subscribe(1, "P", "a");
    (void)n.on_session(session("S"));
    EXPECT_EQ(text(n.on_tracks(cause)), std::string("new-peer; session ''; reconnecting ") +
                                            to_string(cause.kind) + " 1; timer");
  }
}

TEST_F(NegotiatorTest, ErrorsOfTheAnswer) {
  auto at_putting = [this] {
    n = Negotiator(settings());
    (void)n.subscribe(1, "P", "a");
    (void)n.on_session(session("S"));
    (void)n.on_tracks(offered({item("a", "0")}));
    (void)n.on_remote_set(Done{});
    (void)n.on_answer(std::string("A"));
  };
  for (Error busy : {error(ErrorKind::busy, 429), error(ErrorKind::unreachable)}) {
    at_putting();
    EXPECT_EQ(text(n.on_answer_put(busy)),
              std::string("reconnecting ") + to_string(busy.kind) + " 1; timer");
    EXPECT_EQ(text(n.on_timer()), "put S A");
    EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "live 1@0");
  }
  for (Error lost : {error(ErrorKind::gone, 410), error(ErrorKind::timeout),
                     error(ErrorKind::server, 500), error(ErrorKind::not_yet, 503)}) {
    at_putting();
    EXPECT_EQ(text(n.on_answer_put(lost)), std::string("new-peer; session ''; reconnecting ") +
                                               to_string(lost.kind) + " 1; timer");
  }
  for (Error final : {error(ErrorKind::rejected, 406), error(ErrorKind::protocol),
                      error(ErrorKind::unauthorized, 401)}) {
    at_putting();
    EXPECT_EQ(text(n.on_answer_put(final)), std::string("fail ") + to_string(final.kind));
  }
  at_putting();
  RenegotiateReply refused;
  refused.error.code = "invalid_session_description";
  EXPECT_EQ(text(n.on_answer_put(refused)), "fail rejected");
}

TEST_F(NegotiatorTest, ErrorsOfWebrtcbin) {
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.on_offer(error(ErrorKind::peer))), "fail peer");

  n = Negotiator(settings());
  (void)n.publish(1, "a");
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.on_session(session("S"));
  (void)n.on_tracks(answered({item("a", "0")}));
  EXPECT_EQ(text(n.on_remote_set(error(ErrorKind::peer))), "fail peer");

  for (bool answering : {false, true}) {
    n = Negotiator(settings());
    (void)n.subscribe(1, "P", "a");
    (void)n.on_session(session("S"));
    (void)n.on_tracks(offered({item("a", "0")}));
    if (answering) {
      (void)n.on_remote_set(Done{});
      EXPECT_EQ(text(n.on_answer(error(ErrorKind::peer))), "fail peer");
    } else {
      EXPECT_EQ(text(n.on_remote_set(error(ErrorKind::peer))), "fail peer");
    }
  }
}

TEST_F(NegotiatorTest, DescriptionsOfTheWrongKindAreProtocolErrors) {
  auto push = [this](TracksReply reply) {
    n = Negotiator(settings());
    (void)n.publish(1, "a");
    (void)n.on_offer(offer({{1, "0"}}));
    (void)n.on_session(session("S"));
    return text(n.on_tracks(std::move(reply)));
  };
  auto pull = [this](TracksReply reply) {
    n = Negotiator(settings());
    (void)n.subscribe(1, "P", "a");
    (void)n.subscribe(2, "P", "b");
    (void)n.on_session(session("S"));
    return text(n.on_tracks(std::move(reply)));
  };
  EXPECT_EQ(push(offered({item("a", "0")})), "fail protocol");
  EXPECT_EQ(push(bare({item("a", "0")})), "fail protocol") << "accepted, but no answer";
  EXPECT_EQ(pull(answered({item("a", "0")})), "fail protocol");
  TracksReply no_offer = bare({item("a", "0"), item("b", "1")});
  no_offer.requires_immediate_renegotiation = true;
  EXPECT_EQ(pull(no_offer), "fail protocol");
  EXPECT_EQ(pull(offered({item("a", "0"), item("b", "0")})), "fail protocol") << "one mid for two";
}

TEST_F(NegotiatorTest, AStreamThatHasFlowedGetsNewSessionsForFinalErrors) {
  publish_live();
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::gone))),
            "new-peer; session ''; reconnecting gone 1; timer");
  for (int i = 0; i < 20; ++i) {
    (void)n.on_timer();
    (void)n.on_session(session("T"));
    (void)n.on_offer(offer({{1, "0"}}));
    EXPECT_EQ(text(n.on_tracks(error(ErrorKind::protocol))),
              "new-peer; session ''; reconnecting protocol " + std::to_string(i + 2) + "; timer");
  }
  for (ErrorKind kind : {ErrorKind::gone, ErrorKind::rejected, ErrorKind::protocol}) {
    (void)n.on_timer();
    EXPECT_EQ(text(n.on_session(error(kind))).rfind("reconnecting", 0), 0u) << to_string(kind);
  }
}

TEST_F(NegotiatorTest, ARefusedRequestFailsItsOwnTracksOnly) {
  pull_live();
  (void)n.subscribe(2, "P", "b");
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::rejected, 406, "invalid_params"))),
            "failed 2 rejected");

  n = Negotiator(settings());
  publish_live();
  (void)n.publish(2, "b");
  (void)n.on_offer(offer({{1, "0"}, {2, "1"}}));
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::rejected, 413, "payload_too_large"))),
            "failed 2 rejected; new-peer; session ''; reconnecting rejected 1; timer");
  EXPECT_EQ(text(n.on_timer()), "create-session; create-offer 1");
}

TEST_F(NegotiatorTest, RetryAfterIsHonoured) {
  (void)n.publish(1, "a");
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.on_session(session("S"));
  Error busy = error(ErrorKind::busy, 429);
  busy.retry_after_ms = 7000;
  Actions actions = n.on_tracks(busy);
  EXPECT_GE(delay(actions), 7000u);
  EXPECT_LE(delay(actions), 8000u);
}

TEST_F(NegotiatorTest, WhileMediaFlowsARequestThatWaitsIsNotReconnecting) {
  publish_live();
  (void)n.publish(2, "b");
  (void)n.on_offer(offer({{1, "0"}, {2, "1"}}));
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::busy, 429))), "timer");
}

TEST_F(NegotiatorTest, TooEarlyIsOverWhenThePeerIsConnected) {
  (void)n.publish(1, "a");
  (void)n.publish(2, "b");
  (void)n.on_offer(offer({{1, "0"}}));
  (void)n.on_session(session("S"));
  (void)n.on_tracks(answered({item("a", "0")}));
  (void)n.on_remote_set(Done{});
  (void)n.on_offer(offer({{1, "0"}, {2, "1"}}));
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::busy, 425, "session_error"))),
            "reconnecting busy 1; timer");
  EXPECT_EQ(text(n.on_connection(PeerState::connecting)), "");
  EXPECT_EQ(text(n.on_connection(PeerState::connected)), "stop-timer; post S OFFER 1=b");
  EXPECT_EQ(text(n.on_timer()), "") << "it may have been on its way";
}

TEST_F(NegotiatorTest, AttemptsAreBoundedIfAsked) {
  n = Negotiator(settings(2));
  (void)n.publish(1, "a");
  EXPECT_EQ(text(n.on_session(error(ErrorKind::unreachable))), "reconnecting unreachable 1; timer");
  (void)n.on_timer();
  EXPECT_EQ(text(n.on_session(error(ErrorKind::unreachable))), "reconnecting unreachable 2; timer");
  (void)n.on_timer();
  EXPECT_EQ(text(n.on_session(error(ErrorKind::unreachable))), "fail unreachable");

  publish_live(0);
  EXPECT_EQ(text(n.on_session_lost(error(ErrorKind::gone))), "new-peer; session ''; fail gone");
}

TEST_F(NegotiatorTest, ASessionThatOnlyFailsPullsIsReplaced) {
  (void)n.subscribe(1, "P", "a");
  (void)n.on_session(session("S"));
  for (int i = 1; i <= 5; ++i) {
    EXPECT_EQ(text(n.on_tracks(error(ErrorKind::server, 500))),
              "reconnecting server " + std::to_string(i) + "; timer");
    EXPECT_EQ(text(n.on_timer()), "post S P/a");
  }
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::server, 500))),
            "new-peer; session ''; reconnecting server 6; timer");
}

// --- 410 in answer to a pull -----------------------------------------------------------------

TEST_F(NegotiatorTest, AnUnusedSessionThatExpiredIsReplacedQuietly) {
  (void)n.subscribe(1, "P", "a");
  (void)n.on_session(session("S"));
  (void)n.on_tracks(bare({item("a", "", "not_found_track_error")}));
  (void)n.on_timer();
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::gone, 410, "session_error"))),
            "session ''; create-session");
  EXPECT_EQ(text(n.on_session(session("T"))), "session 'T'; post T P/a");
  // As young as it is, it cannot have expired: it is the publisher's that is gone.
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::gone, 410, "session_error"))),
            "failed 1 not-yet retrying; session ''; timer");
  EXPECT_EQ(text(n.on_timer()), "create-session");
}

TEST_F(NegotiatorTest, APublishersLossCostsTheOthersOneSessionAtMost) {
  pull_live();
  (void)n.subscribe(2, "Q", "b");
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::gone, 410, "session_error"))),
            "new-peer; session ''; reconnecting gone 1; timer");
  EXPECT_EQ(text(n.on_timer()), "create-session");
  EXPECT_EQ(text(n.on_session(session("T"))), "session 'T'; post T P/a");
  (void)n.on_tracks(offered({item("a", "0")}));
  (void)n.on_remote_set(Done{});
  (void)n.on_answer(std::string("A"));
  EXPECT_EQ(text(n.on_answer_put(RenegotiateReply{})), "live 1@0; post T Q/b");
  (void)n.on_connection(PeerState::connected);
  EXPECT_EQ(text(n.on_tracks(error(ErrorKind::gone, 410, "session_error"))),
            "failed 2 not-yet retrying; timer");
  EXPECT_EQ(text(n.on_timer()), "post T Q/b");
}

}  // namespace
}  // namespace cfr
